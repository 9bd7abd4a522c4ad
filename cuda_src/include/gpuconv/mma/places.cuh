// Who tells a thread where its places of the depth lie, stage after stage: a table in shared memory, or the thread
// itself. Stages are named by how many are left.
#pragma once

#include <gpuconv/mma/tiles.cuh>

namespace gpuconv {
namespace {

// Where a thread has several places: the first BLOCK_K threads look up one each for all. Of two tables one is written
// while the other is read, a barrier between them; cursors wait in shared memory, since registers are for sums.
class TabledPlaces {
 public:
  __device__ __forceinline__ TabledPlaces(const GemmParams& params, const Block& block) {
    if (writer_ >= BLOCK_K) return;
    Cursor(params.channels, block.rows, block.columns, block.first, writer_).wait_first(waiting(), writer_);
  }
  // The next stage; `wanted`: whether it is to be loaded at all.
  __device__ __forceinline__ void write(const GemmParams& params, int stage, bool wanted) {
    if (writer_ >= BLOCK_K) return;
    Cursor cursor(params.channels, waiting(), writer_);
    cursor.write(tables() + (stage & 1), turned(writer_), params, wanted);
    cursor.next();
    cursor.wait(waiting(), writer_);
  }
  __device__ __forceinline__ Tabled<DepthPlace, InPlace> in(int stage) const { return {tables()[stage & 1].in}; }
  __device__ __forceinline__ Tabled<DepthOffset> taps(int stage) const { return {tables()[stage & 1].taps}; }

 private:
  const int writer_ = threadIdx.x;

  static __device__ __forceinline__ Table* tables() {
    return reinterpret_cast<Table*>(ptx::dynamic_shared() + kTablesAt);
  }
  static __device__ __forceinline__ Waiting<BLOCK_K>* waiting() {
    return reinterpret_cast<Waiting<BLOCK_K>*>(ptx::dynamic_shared() + kCursorsAt);
  }
};

// Where no thread has more than one place of an operand: it counts for itself, and shared memory is left to tiles. What
// it needs of a stage it finds when that is loaded: only where it is lasts, since registers are for sums.
class OwnPlaces {
 public:
  __device__ __forceinline__ OwnPlaces(const GemmParams& params, const Block& block)
      : params_(params),
        in_cursor_(params.channels, block.rows, block.columns, block.first, InMap::depth(0)),
        taps_cursor_(params.channels, block.rows, block.columns, block.first, TapsMap::depth(0)) {}

  __device__ __forceinline__ void write(const GemmParams&, int, bool) {}
  // Asked once for each stage, and before the taps; there is none to be loaded when none is left.
  __device__ __forceinline__ OnePlace<InPlace> in(int stage) {
    const DepthPlace cell = in_cursor_.cell(params_, stage > 0);
    if (!kSame) in_cursor_.next();
    return {cell};
  }
  __device__ __forceinline__ OnePlace<DepthOffset> taps(int stage) {
    Cursor& cursor = kSame ? in_cursor_ : taps_cursor_;
    const DepthOffset tap = cursor.tap(params_, stage > 0);
    cursor.next();
    return {tap};
  }

 private:
  static constexpr bool kSame = same_depths<InMap, TapsMap>(kThreads);  // of both operands
  const GemmParams& params_;
  Cursor in_cursor_, taps_cursor_;
};

template <bool InShared>
struct PlacesOf {
  using Type = TabledPlaces;
};
template <>
struct PlacesOf<false> {
  using Type = OwnPlaces;
};
using Places = PlacesOf<kTabled>::Type;

}  // namespace
}  // namespace gpuconv
