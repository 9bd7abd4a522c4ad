// How a warp's sums get from registers to the result: through shared memory, so that stores are of 16 bytes.
#pragma once

#include <gpuconv/epilogue/finish.cuh>
#include <gpuconv/mma/sums.cuh>

namespace gpuconv {
namespace {

// Once the stages are done, each warp has 16 rows of its sums in their place. Rows lie so far apart that the two words
// of a lane meet no other's bank.
constexpr int kPitch = WARP_N + 8;
constexpr int kVector = SPLIT ? 4 : 8;  // results of a store

// What the end needs of the block beside its rows.
struct alignas(8) Corner {
  int g, n;
};

// Where each row of the block lies in the result, or -1; and the corner.
__device__ __forceinline__ void write_place(const GemmParams& params, const Block& block) {
  long long* offsets = reinterpret_cast<long long*>(ptx::dynamic_shared());
  const long long base = (SPLIT ? block.split * params.split_elements : 0) + block.g * params.out_strides.group;
  for (int m = threadIdx.x; m < BLOCK_M; m += kThreads) {
    long long offset = -1;
    if (block.m + m < block.count_m) {
      offset = base + out_offset(params, block, Pixel(block.radices.advanced(block.start, m)));
    }
    ptx::st_shared(offsets + m, offset);
  }
  const Corner corner{block.g, block.n};
  if (threadIdx.x == 0) ptx::st_shared(reinterpret_cast<Corner*>(ptx::dynamic_shared() + kCornerAt), corner);
}

// Sixteen rows of sums.
__device__ __forceinline__ void write_rows(float* rows, const float (&sums)[kTilesN][4]) {
  const int lane = threadIdx.x % 32;
  float* to = rows + lane / 4 * kPitch + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < kTilesN; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Pack<float, 2> two{{sums[j][2 * half], sums[j][2 * half + 1]}};
      ptx::st_shared(reinterpret_cast<Pack<float, 2>*>(to + half * 8 * kPitch + j * 8), two);
    }
}

// Neighbours along a row.
template <class Finish>
__device__ __forceinline__ void store_row(const Finish& finish, const float* from, int channel,
                                          long long offset, int count) {
  float values[kVector];
#pragma unroll
  for (int i = 0; i < kVector; i += 4) {
    const auto quad = ptx::ld_shared(reinterpret_cast<const Pack<float, 4>*>(from + i));
#pragma unroll
    for (int e = 0; e < 4; ++e) values[i + e] = quad[e];
  }
  finish.store(values, channel, 1, offset, count);
}

// Neighbours along a column, which may lie anywhere in the result.
template <class Finish>
__device__ __forceinline__ void store_column(const Finish& finish, const float* from, const long long* offsets,
                                             int channel, long long column) {
  float values[kVector];
  long long offset[kVector];
  bool together = true;
#pragma unroll
  for (int e = 0; e < kVector; ++e) {
    values[e] = ptx::ld_shared(from + e * kPitch);
    offset[e] = ptx::ld_shared(offsets + e);
    together = together && offset[e] == offset[0] + e && offset[e] >= 0;
  }
  if (together) return finish.store(values, channel, 0, column + offset[0], kVector);
#pragma unroll
  for (int e = 0; e < kVector; ++e) {
    const float one[1] = {values[e]};
    if (offset[e] >= 0) finish.store(one, channel, 0, column + offset[e], 1);
  }
}

template <class Finish>
__device__ __forceinline__ void store(const Finish& finish, const GemmParams& params, const Sums& sums) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const long long* offsets = reinterpret_cast<const long long*>(ptx::dynamic_shared()) + warp / kWarpsN * WARP_M;
  float* rows = reinterpret_cast<float*>(ptx::dynamic_shared() + kRingAt) + warp * 16 * kPitch;
  __syncthreads();
  const Corner corner = ptx::ld_shared(reinterpret_cast<const Corner*>(ptx::dynamic_shared() + kCornerAt));
  const int first = corner.n + warp % kWarpsN * WARP_N;
#pragma unroll
  for (int i = 0; i < kTilesM; ++i) {
    __syncwarp();
    write_rows(rows, sums.total[i]);
    __syncwarp();
#pragma unroll 1
    for (int v = lane; v < 16 * WARP_N / kVector; v += 32) {
      constexpr int kAcross = OUT_ALONG_N ? WARP_N / kVector : 16 / kVector;
      const int row = OUT_ALONG_N ? v / kAcross : v % kAcross * kVector;
      const int column = OUT_ALONG_N ? v % kAcross * kVector : v / kAcross;
      const int n = first + column, channel = corner.g * params.filters + n;
      if (n >= params.filters) continue;
      const float* from = rows + row * kPitch + column;
      const long long at = n * params.out_strides.channel;
      if constexpr (OUT_ALONG_N) {
        const long long offset = ptx::ld_shared(offsets + i * 16 + row);
        if (offset >= 0) store_row(finish, from, channel, at + offset, params.filters - n);
      } else {
        store_column(finish, from, offsets + i * 16 + row, channel, at);
      }
    }
  }
}

}  // namespace
}  // namespace gpuconv
