// Everything about tiles in shared memory that follows from the definitions; gpuconv/kernels/cuda/direct_tiles.py
// computes the same sizes.
#pragma once

#include <gpuconv/direct/config.cuh>

namespace gpuconv {
namespace {

using Element = ELEMENT;
using Sum = Accumulator<Element>;

constexpr int kThreadsP = BLOCK_P / THREAD_P, kThreadsQ = BLOCK_Q / THREAD_Q, kThreadsK = BLOCK_K / THREAD_K;
constexpr int kThreads = kThreadsP * kThreadsQ * kThreadsK * BLOCK_G * BLOCK_N;
static_assert(BLOCK_P % THREAD_P == 0 && BLOCK_Q % THREAD_Q == 0 && BLOCK_K % THREAD_K == 0,
              "threads divide their block");
static_assert(kThreads <= 1024, "a block has at most 1024 threads");

constexpr int round_up(int value, int to) { return (value + to - 1) / to * to; }

// One tap a stage needs only the cells that results start at: they are stored side by side.
constexpr bool kPackRows = TAPS_R == 1, kPackColumns = TAPS_S == 1;
constexpr int kTileStrideH = kPackRows ? 1 : STRIDE_H, kTileStrideW = kPackColumns ? 1 : STRIDE_W;
constexpr int kQuad = 16 / sizeof(Sum);  // cells of the widest shared-memory load
constexpr int kRows = (BLOCK_P - 1) * kTileStrideH + (TAPS_R - 1) * DILATION_H + 1;
constexpr int kColumnsNeeded = LEAD + (BLOCK_Q - 1) * kTileStrideW + (TAPS_S - 1) * DILATION_W + 1;
constexpr int kColumns = INTERLEAVED ? kColumnsNeeded : round_up(round_up(kColumnsNeeded, kQuad), IN_VECTOR);
static_assert(IN_VECTOR == 1 || !(IN_UNIT == kColumn && kPackColumns && STRIDE_W > 1), "columns lie apart");
static_assert(IN_VECTOR == 1 || !(IN_UNIT == kRow && kPackRows && STRIDE_H > 1), "rows lie apart");
static_assert(LEAD == 0 || !kPackColumns || STRIDE_W == 1, "columns before the first would lie apart");

// Threads that read or write at this stride from each other meet 8 banks at least, and quads stay aligned.
constexpr int spread(int cells) { return cells % 8 == 0 ? cells + 4 : cells; }

// Of a tile's axes: cells and shared-memory strides.
struct InTile {
  static constexpr int kUnit = IN_UNIT, kVector = IN_VECTOR;
  static constexpr int kDeep = BLOCK_C * BLOCK_N * BLOCK_G;
  static constexpr int kCells = kRows * kColumns * kDeep;
  static constexpr int kPlane = kDeep > 1 ? spread(kRows * kColumns) : kRows * kColumns;
  static constexpr int kPixel = K_FIRST && kThreadsK * BLOCK_G >= 32 ? kDeep : spread(kDeep);
  static constexpr int kStored = INTERLEAVED ? kRows * kColumns * kPixel : kPlane * kDeep;
  __host__ __device__ static constexpr int extent(int axis) {
    constexpr int extents[kTileAxes] = {kRows, kColumns, BLOCK_C, BLOCK_N, BLOCK_G};
    return extents[axis];
  }
  __host__ __device__ static constexpr int stride(int axis) {
    if (!INTERLEAVED) {
      constexpr int strides[kTileAxes] = {kColumns, 1, kPlane, BLOCK_G * BLOCK_C * kPlane, BLOCK_C * kPlane};
      return strides[axis];
    }
    if (axis == kRow) return kColumns * kPixel;
    if (axis == kColumn) return kPixel;
    if (kUnit == kChannel) return axis == kChannel ? 1 : axis == kGroup ? BLOCK_C : BLOCK_C * BLOCK_G;
    if (kUnit == kLane) return axis == kLane ? 1 : axis == kGroup ? BLOCK_N : BLOCK_N * BLOCK_G;
    return axis == kGroup ? 1 : axis == kLane ? BLOCK_G : BLOCK_G * BLOCK_N;
  }
};
struct TapsTile {
  static constexpr int kUnit = TAPS_UNIT, kVector = TAPS_VECTOR;
  static constexpr int kCells = TAPS_R * TAPS_S * BLOCK_C * BLOCK_K * BLOCK_G;
  static constexpr bool kGroupsInside = kUnit == kLane || kUnit == kGroup;
  static constexpr int kTap = kGroupsInside ? BLOCK_K * BLOCK_G : BLOCK_K > 1 ? spread(BLOCK_K) : 1;
  static constexpr int kBank = TAPS_R * TAPS_S * BLOCK_C * kTap;  // without groups, where they are outside
  static constexpr int kGroupStride = kGroupsInside ? BLOCK_K : BLOCK_G > 1 ? spread(round_up(kBank, 4)) : kBank;
  static constexpr int kStored = kGroupsInside ? kBank : kGroupStride * BLOCK_G;
  __host__ __device__ static constexpr int extent(int axis) {
    constexpr int extents[kTileAxes] = {TAPS_R, TAPS_S, BLOCK_C, BLOCK_K, BLOCK_G};
    return extents[axis];
  }
  __host__ __device__ static constexpr int stride(int axis) {
    constexpr int strides[kTileAxes] = {TAPS_S * kTap, kTap, TAPS_R * TAPS_S * kTap, 1, kGroupStride};
    return strides[axis];
  }
};
constexpr int kInCells = round_up(InTile::kStored, kQuad), kTapsCells = round_up(TapsTile::kStored, kQuad);
constexpr bool kAsync = STAGES > 1;

}  // namespace
}  // namespace gpuconv
