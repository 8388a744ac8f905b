"""The numpy definition of every compiled kernel: written from the published formulas and the counter layout.

Float64 arithmetic on exact Philox words, so a kernel may differ from it by its own float32 rounding and no more. Needs
nothing but numpy, except `bridge` and `cases`, which hand the same numbers to the compiled module.
"""
