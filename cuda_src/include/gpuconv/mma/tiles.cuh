// Everything about tiles that follows from the definitions; gpuconv/kernels/cuda/mma_tiles.py computes the same.
#pragma once

#include <gpuconv/mma/config.cuh>  // first: its defaults come before those of gemm/config.cuh

#include <gpuconv/gemm/block.cuh>
#include <gpuconv/mma/copy.cuh>

namespace gpuconv {
namespace {

constexpr int kWarpsM = BLOCK_M / WARP_M, kWarpsN = BLOCK_N / WARP_N;
constexpr int kThreads = kWarpsM * kWarpsN * 32;
constexpr int kTilesM = WARP_M / 16, kTilesN = WARP_N / 8;  // of one instruction
static_assert(sizeof(Element) == 2, "elements have 16 bits");
static_assert(WARP_M % 16 == 0 && WARP_N % 16 == 0 && BLOCK_K % 16 == 0, "instructions divide their warp");
static_assert(kWarpsM * WARP_M == BLOCK_M && kWarpsN * WARP_N == BLOCK_N, "warps divide their block");
static_assert(BLOCK_K % (16 * CHAIN) == 0, "chains divide a stage");
static_assert(kThreads <= 1024 && BLOCK_K <= kThreads, "a thread for each place of a stage");
static_assert(STAGES >= 2, "a stage is computed while another is under way");

using InMap = CopyMap<Element, BLOCK_M, BLOCK_K, kThreads, IN_ALONG_DEPTH, IN_VECTOR>;
using TapsMap = CopyMap<Element, BLOCK_N, BLOCK_K, kThreads, TAPS_ALONG_DEPTH, TAPS_VECTOR>;
template <class Map, bool Inside>
struct InOf {
  using Type = InOperand<Map, Copies<Map>>;
  using Place = DepthPlace;
};
template <class Map>
struct InOf<Map, true> {
  using Type = TapsOperand<Map, Copies<Map>, Address[Map::kOuters]>;
  using Place = DepthOffset;
};
using In = InOf<InMap, INSIDE>::Type;
using InPlace = InOf<InMap, INSIDE>::Place;
using Taps = TapsOperand<TapsMap, Copies<TapsMap>>;
using Table = DepthTable<BLOCK_K>;
using Cursor = DepthCursor<BLOCK_K, CHANNELS_FIRST>;
// Whether a table tells threads where their places of the depth lie, see mma/places.cuh.
constexpr bool kTabled = InMap::kDepths > 1 || TapsMap::kDepths > 1;

// Shared memory: where each row of the block lies in the result, the block's corner, where needed two tables and the
// cursors that write them, then the stages of [in][taps]. What a thread needs but once in a while waits there:
// registers are for sums.
constexpr int kCornerAt = BLOCK_M * sizeof(long long);
constexpr int kTablesAt = kCornerAt + 128;
constexpr int kCursorsAt = kTablesAt + 2 * sizeof(Table);
constexpr int kRingAt = kTabled ? kCursorsAt + static_cast<int>(sizeof(Waiting<BLOCK_K>)) : kTablesAt;
constexpr int kInBytes = Copies<InMap>::kTileBytes, kTapsBytes = Copies<TapsMap>::kTileBytes;
constexpr int kStageBytes = kInBytes + kTapsBytes;
static_assert(kInBytes % Copies<TapsMap>::kRowBytes == 0 && kStageBytes % Copies<TapsMap>::kRowBytes == 0 &&
                  kStageBytes % Copies<InMap>::kRowBytes == 0,
              "tiles begin at a multiple of a row");
static_assert(kRingAt % 128 == 0 && kInBytes % 128 == 0 && kTapsBytes % 128 == 0, "tiles begin at the first bank");

}  // namespace
}  // namespace gpuconv
