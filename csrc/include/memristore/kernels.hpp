// The kernel table: plain functions over pointers and cell ranges. They never allocate, throw or own. One table per
// instruction set, all giving the same bits; `active()` is picked once at load.
#pragma once
#include <cstddef>
#include <cstdint>

#include "memristore/counter.hpp"
#include "memristore/device.hpp"
#include "memristore/ldpc.hpp"
#include "memristore/windows.hpp"

namespace memristore {

struct TrellisSearch;

// Cells [first, first + n) of the array named by key.
struct Cells {
  std::uint64_t key;
  std::uint64_t first;
  std::size_t n;
};

// Which draw of a cell.
struct Draw {
  std::uint32_t purpose;
  std::uint32_t event;
};

// Cells of 2^bits levels, 8 / bits of them to a byte, first cell in the low bits. A read finds the level above or below the
// written one with the probabilities up and down (levels at the ends cannot leave the range).
struct LevelModel {
  std::uint32_t bits;         // 1, 2 or 4
  std::uint8_t level_of[16];  // label (the bits stored) to level
  std::uint8_t label_of[16];  // level to label
  float up[16];               // by level
  float down[16];
  std::uint32_t bound;  // no byte has an error when its word is at or above this
};

struct KernelTable {
  const char* name;
  void (*philox)(std::uint64_t key, Draw draw, std::uint64_t first_block, std::size_t blocks, std::uint32_t* out);
  void (*normals)(Cells cells, Draw draw, float* out);
  void (*curve)(const Curve& curve, const float* x, std::size_t n, float* out);
  void (*program)(const Device& device, Cells cells, std::uint32_t event, const float* x, float* out);
  void (*program_and_verify)(const Device& device, const Pulse& pulse, Cells cells, std::uint32_t event, const float* x,
                             float* out, std::uint16_t* pulses, std::uint8_t* failed);
  void (*drift)(const Device& device, const ReadTime& time, Cells cells, const float* programmed, float* out);
  void (*relax)(const Device& device, const ReadTime& time, Cells cells, const float* programmed, const float* state,
                float* out);
  void (*read)(const Device& device, const ReadTime& time, Cells cells, Draw draw, const float* programmed,
               const float* state, float* out);
  void (*faults)(const Device& device, Cells cells, std::uint8_t* out);
  void (*age_and_read)(const Device& device, const ReadTime& time, Cells cells, Draw draw, const float* programmed,
                       float* out);
  void (*program_age_read)(const Device& device, const ReadTime& time, Cells cells, std::uint32_t write_event,
                           Draw draw, const float* x, float* out);
  void (*affine)(const float* values, std::size_t n, float scale, float offset, float lo, float hi, float* out);
  void (*lookup)(const float* values, std::size_t n, const float* table, std::size_t knots, float x0, float inv_step,
                 bool extrapolate, float* out);
  void (*split_sign)(const float* values, std::size_t n, float* magnitude, std::uint8_t* signs);
  void (*join_sign)(const float* magnitude, const std::uint8_t* signs, std::size_t n, float* out);
  void (*differential)(const float* values, std::size_t n, float* positive, float* negative);
  std::size_t (*partition)(const float* values, std::size_t n, float threshold, float* small, float* large,
                           std::uint8_t* flags);
  void (*merge)(const std::uint8_t* flags, std::size_t n, const float* small, std::size_t smalls, const float* large,
                std::size_t larges, float* out);
  void (*level_errors)(const LevelModel& model, Cells weights, std::uint32_t event, const std::uint8_t* in,
                       std::uint8_t* out);
  // Decodes scratch.sums in place; returns the iterations that it took, or -1 where a check still fails after the last.
  std::int32_t (*ldpc_decode)(const LdpcCode& code, const LdpcScratch& scratch, std::uint32_t iterations);
  void (*trellis)(const TrellisSearch& search, const float* values, const std::uint8_t* classes, std::size_t n,
                  std::uint8_t* scratch, std::int32_t* levels);
  // `sample`: n > 0 values in rising order, an even part of those that the window is for.
  Window (*best_window)(const Seen& seen, const WindowRule& rule, const float* sample, std::size_t n);
  Extremes (*extremes)(const float* values, std::size_t n);
  void (*shape_masses)(const double* powers, std::size_t rows, std::size_t points, const double* scales,
                       std::size_t widths, double* out);
};

// A decoding table: values at equally spaced soft reads from x0 on.
struct DecodeTable {
  const float* values;
  std::size_t knots;
  float x0;
  float inv_step;
  bool extrapolate;
};

// Values of a table of rows x columns knots, each at least 2, at fractional indices; straight between knots, along columns
// first, and beyond the ends.
void lookup_plane(const float* row, const float* column, std::size_t n, const float* table, std::size_t rows,
                  std::size_t columns, float* out);

// Points of a curve through the plane of pairs, a positive multiple of 8 up to 65536.
struct CurvePoints {
  const float* first;
  const float* second;
  const float* offset;
  std::size_t n;
};

// Index of the first point with the least offset - (pair . point), for each pair.
void nearest_points(const float* first, const float* second, std::size_t n, const CurvePoints& curve,
                    std::uint16_t* out);

// age_and_read, then lookup of what was read: bit for bit the two one after the other.
void age_read_decode(const KernelTable& kernels, const Device& device, const ReadTime& time, Cells cells, Draw draw,
                     const float* programmed, const DecodeTable& table, float* out);

// Ones among the first n bits, least significant bit of each byte first.
std::size_t ones(const std::uint8_t* bits, std::size_t n);

// SECDED (72, 64): extended Hamming code, one check byte per word.
void secded_encode(const std::uint64_t* words, std::size_t n, std::uint8_t* check);
// Corrects in place. status: 0 clean, 1 one bit corrected, 2 uncorrectable (word left as read).
void secded_decode(std::uint64_t* words, std::uint8_t* check, std::size_t n, std::uint8_t* status);

const KernelTable& active();
// Names of the levels that this build holds and this machine runs, best first.
std::size_t available(const KernelTable* out[], std::size_t capacity);
bool select(const char* name);

}  // namespace memristore
