// The depth of an implicit matrix product: products of one result, counted over channels and taps. A cursor tells of a
// place in stage after stage where its operands lie relative to a pixel and to a filter; a table in shared memory holds
// that for each place of a stage.
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
  // All that counts where no cell lies outside.
  __device__ __forceinline__ operator DepthOffset() const { return {offset()}; }
};

template <int BlockK>
struct DepthTable {
  DepthPlace in[BlockK];
  DepthOffset taps[BlockK];
};

// Places of a thread as operands ask for them, by where they are in the stage: read from a table, each `As` the part of
// it that is needed.
template <class Place, class As = Place>
struct Tabled {
  const Place* places;

  __device__ __forceinline__ As operator[](int place) const {
    return ptx::ld_shared(reinterpret_cast<const As*>(&places[place]));
  }
};

// The only one that the thread has.
template <class Place>
struct OnePlace {
  Place place;

  __device__ __forceinline__ Place operator[](int) const { return place; }
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
  __device__ __forceinline__ DepthPlace cell(const GemmParams& params, bool wanted) const {
    const bool there = wanted && inside();
    const int row = there ? static_cast<int>(r()) * params.dilation_h : kNowhere;
    const int column = static_cast<int>(s()) * params.dilation_w;
    return DepthPlace::of(DepthOffset::of(bytes(params.in_steps), there), row, column);
  }
  __device__ __forceinline__ DepthOffset tap(const GemmParams& params, bool wanted) const {
    return DepthOffset::of(bytes(params.taps_steps), wanted && inside());
  }
  __device__ __forceinline__ void write(DepthTable<BlockK>* table, int place, const GemmParams& params,
                                        bool wanted) const {
    ptx::st_shared(&table->in[place], cell(params, wanted));
    ptx::st_shared(&table->taps[place], tap(params, wanted));
  }

 private:
  // unsigned: half the instructions of a signed product with 64 bits
  __device__ __forceinline__ unsigned c() const { return ChannelsFirst ? at.low : at.high; }
  __device__ __forceinline__ unsigned r() const { return ChannelsFirst ? at.high : at.mid; }
  __device__ __forceinline__ unsigned s() const { return ChannelsFirst ? at.mid : at.low; }
  __device__ __forceinline__ bool inside() const { return at.high < (ChannelsFirst ? rows : channels); }
  __device__ __forceinline__ long long bytes(const DepthSteps& steps) const {
    return c() * steps.channel + r() * steps.row + s() * steps.column;
  }
};

}  // namespace gpuconv
