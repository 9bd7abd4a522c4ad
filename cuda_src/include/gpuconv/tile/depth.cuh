// The depth of an implicit matrix product: products of one result, counted over channels and taps. A table in shared
// memory holds, for each place of a stage, where its operands lie relative to a pixel and to a filter.
#pragma once

#include <gpuconv/params.cuh>
#include <gpuconv/ptx/shared.cuh>
#include <gpuconv/tile/correlation.cuh>
#include <gpuconv/tile/digits.cuh>

namespace gpuconv {

// Beyond every axis, also once a cell's coordinate is added.
constexpr int kNowhere = static_cast<int>(0x80000000u);

// Bytes from the operand's first tap and channel to a place of the sum; none beyond the sum's end, which its high word
// tells.
struct DepthOffset {
  unsigned long long bytes;

  __device__ __forceinline__ static DepthOffset of(long long offset, bool there) {
    const auto bits = static_cast<unsigned long long>(offset);
    return {there ? bits : static_cast<unsigned>(bits) | 1ull << 63};
  }
  __device__ __forceinline__ bool there() const { return bytes >> 32 != 0x80000000u; }
};

// Where an operand has one place of the sum. Moved as one: a compiler that sees its parts moves them one by one.
struct alignas(16) DepthPlace {
  unsigned words[4];

  __device__ __forceinline__ static DepthPlace of(DepthOffset offset, int row, int column) {
    return {{static_cast<unsigned>(offset.bytes), static_cast<unsigned>(offset.bytes >> 32), static_cast<unsigned>(row),
             static_cast<unsigned>(column)}};
  }
  __device__ __forceinline__ unsigned long long offset() const {
    return static_cast<unsigned long long>(words[1]) << 32 | words[0];
  }
  // Cells of the input from that of the first tap; the row is kNowhere beyond the end of the sum.
  __device__ __forceinline__ unsigned row() const { return words[2]; }
  __device__ __forceinline__ unsigned column() const { return words[3]; }
};

template <int BlockK>
struct DepthTable {
  DepthPlace in[BlockK];
  DepthOffset taps[BlockK];
};

struct alignas(16) StoredDigits {
  int words[4];

  __device__ __forceinline__ static StoredDigits of(Digits digits, int beside) {
    return {{digits.low, digits.mid, digits.high, beside}};
  }
  __device__ __forceinline__ Digits digits() const { return {words[0], words[1], words[2]}; }
};

// Cursors of a stage's places, where they wait; neighbours lie in different banks.
template <int BlockK>
struct Waiting {
  StoredDigits at[BlockK], step[BlockK];
};

// One place of stage after stage. `ChannelsFirst`: channels are counted before taps, else columns and rows of taps.
template <int BlockK, bool ChannelsFirst>
struct DepthCursor {
  Radices radices;
  Digits at, step;
  int channels, rows;

  __device__ __forceinline__ DepthCursor(int channels_, const Span& rows_, const Span& columns_, int stage, int place)
      : radices(ChannelsFirst ? Radices{channels_, columns_.taps} : Radices{columns_.taps, rows_.taps}),
        at(radices.of(static_cast<long long>(stage) * BlockK + place)),
        step(radices.of(BlockK)),
        channels(channels_),
        rows(rows_.taps) {}

  // One that waited in shared memory, where also its radices lie.
  __device__ __forceinline__ DepthCursor(int channels_, const Waiting<BlockK>* waiting, int place)
      : channels(channels_) {
    const StoredDigits now = ptx::ld_shared(&waiting->at[place]), by = ptx::ld_shared(&waiting->step[place]);
    const int columns = now.words[3];
    at = now.digits();
    step = by.digits();
    rows = by.words[3];
    radices = ChannelsFirst ? Radices{channels, columns} : Radices{columns, rows};
  }
  __device__ __forceinline__ void wait(Waiting<BlockK>* waiting, int place) const {
    ptx::st_shared(&waiting->at[place], StoredDigits::of(at, ChannelsFirst ? radices.mid : radices.low));
  }
  __device__ __forceinline__ void wait_first(Waiting<BlockK>* waiting, int place) const {
    wait(waiting, place);
    ptx::st_shared(&waiting->step[place], StoredDigits::of(step, rows));
  }

  __device__ __forceinline__ void next() { at = radices.sum(at, step); }

  // `wanted`: whether the stage is to be loaded at all.
  __device__ __forceinline__ void write(DepthTable<BlockK>* table, int place, const GemmParams& params,
                                        bool wanted) const {
    // unsigned: half the instructions of a signed product with 64 bits
    const unsigned c = ChannelsFirst ? at.low : at.high;
    const unsigned r = ChannelsFirst ? at.high : at.mid;
    const unsigned s = ChannelsFirst ? at.mid : at.low;
    const bool there = wanted && at.high < (ChannelsFirst ? rows : channels);
    const DepthSteps &in = params.in_steps, &taps = params.taps_steps;
    const int row = there ? static_cast<int>(r) * params.dilation_h : kNowhere;
    const int column = static_cast<int>(s) * params.dilation_w;
    const DepthOffset to_cell = DepthOffset::of(c * in.channel + r * in.row + s * in.column, there);
    const DepthOffset to_tap = DepthOffset::of(c * taps.channel + r * taps.row + s * taps.column, there);
    ptx::st_shared(&table->in[place], DepthPlace::of(to_cell, row, column));
    ptx::st_shared(&table->taps[place], to_tap);
  }
};

}  // namespace gpuconv
