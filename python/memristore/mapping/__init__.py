"""Mappers: symbol to target state of a cell, and read state to soft value."""

from memristore.mapping.companded import Companded
from memristore.mapping.density import Density
from memristore.mapping.differential import Differential
from memristore.mapping.level_labels import GROUPS as LEVEL_GROUPS
from memristore.mapping.levels import LevelDesign, Levels
from memristore.mapping.linear import Linear
from memristore.mapping.mapper import Mapper, PlaneParams, Table
from memristore.registry import Registry

mappers = Registry("memristore.mapping", Mapper)

__all__ = [
    "LEVEL_GROUPS",
    "Companded",
    "Density",
    "Differential",
    "LevelDesign",
    "Levels",
    "Linear",
    "Mapper",
    "PlaneParams",
    "Table",
    "mappers",
]
