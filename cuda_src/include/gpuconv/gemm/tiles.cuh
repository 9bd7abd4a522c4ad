// Everything about tiles that follows from the definitions; gpuconv/kernels/cuda/gemm_tiles.py computes the same.
#pragma once

#include <gpuconv/gemm/block.cuh>

namespace gpuconv {
namespace {

constexpr int kQuad = 16 / sizeof(Sum);  // cells of the widest shared-memory load
constexpr int kLanesM = WARP_M / THREAD_M, kLanesN = WARP_N / THREAD_N;
constexpr int kWarpsM = BLOCK_M / WARP_M, kWarpsN = BLOCK_N / WARP_N;
constexpr int kThreads = kWarpsM * kWarpsN * 32;
constexpr int kQuadM = least(THREAD_M, kQuad), kQuadN = least(THREAD_N, kQuad);
static_assert(kLanesM * kLanesN == 32, "a warp has 32 lanes");
static_assert(kLanesM * THREAD_M == WARP_M && kLanesN * THREAD_N == WARP_N, "threads divide their warp");
static_assert(kWarpsM * WARP_M == BLOCK_M && kWarpsN * WARP_N == BLOCK_N, "warps divide their block");
static_assert(THREAD_M % kQuadM == 0 && THREAD_N % kQuadN == 0, "threads hold whole quads");
static_assert(kThreads <= 1024 && BLOCK_K <= kThreads, "a thread for each place of a stage");

// Rows of a tile lie so far apart that lanes which store below each other meet different banks.
constexpr int kPad = sizeof(Sum) == 8 ? 8 : 4;
constexpr int kPitchM = BLOCK_M + kPad, kPitchN = BLOCK_N + kPad;

using InMap = OperandMap<Element, BLOCK_M, BLOCK_K, kThreads, IN_ALONG_DEPTH, IN_VECTOR>;
using TapsMap = OperandMap<Element, BLOCK_N, BLOCK_K, kThreads, TAPS_ALONG_DEPTH, TAPS_VECTOR>;
using In = InOperand<InMap, InFlight<InMap, Sum, kPitchM>>;
using Taps = TapsOperand<TapsMap, InFlight<TapsMap, Sum, kPitchN>>;
using Table = DepthTable<BLOCK_K>;
using Cursor = DepthCursor<BLOCK_K, CHANNELS_FIRST>;

// Places of a stage that are unrolled: all of them where that leaves registers for what is in flight.
constexpr bool kUnrollAll = sizeof(Element) == 4 && InMap::kOuters + TapsMap::kOuters <= 2;
constexpr int kUnroll = kUnrollAll && THREAD_M * THREAD_N == 64 ? BLOCK_K : least(8, BLOCK_K);

// Shared memory: two tables, then two stages of [in][taps].
constexpr int kTableBytes = 2 * sizeof(Table);
constexpr int kStageCells = BLOCK_K * (kPitchM + kPitchN);
static_assert(kTableBytes % 16 == 0, "tiles begin at a multiple of 16 bytes");

}  // namespace
}  // namespace gpuconv
