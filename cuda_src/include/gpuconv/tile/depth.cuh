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

// Where an operand has one place of the sum. Moved as one: a compiler that sees its parts moves them one by one.
struct alignas(16) DepthPlace {
  unsigned words[4];

  __device__ __forceinline__ static DepthPlace of(long long offset, int row, int column) {
    const auto bits = static_cast<unsigned long long>(offset);
    return {{static_cast<unsigned>(bits), static_cast<unsigned>(bits >> 32), static_cast<unsigned>(row),
             static_cast<unsigned>(column)}};
  }
  // Bytes from the operand's first tap and channel.
  __device__ __forceinline__ unsigned long long offset() const {
    return static_cast<unsigned long long>(words[1]) << 32 | words[0];
  }
  // Cells of the input from that of the first tap; the row is kNowhere beyond the end of the sum.
  __device__ __forceinline__ unsigned row() const { return words[2]; }
  __device__ __forceinline__ unsigned column() const { return words[3]; }
  __device__ __forceinline__ bool there() const { return static_cast<int>(words[2]) >= 0; }
};

template <int BlockK>
struct DepthTable {
  DepthPlace in[BlockK], taps[BlockK];
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
    ptx::st_shared(&table->in[place], DepthPlace::of(c * in.channel + r * in.row + s * in.column, row, column));
    ptx::st_shared(&table->taps[place],
                   DepthPlace::of(c * taps.channel + r * taps.row + s * taps.column, there ? 0 : kNowhere, 0));
  }
};

}  // namespace gpuconv
