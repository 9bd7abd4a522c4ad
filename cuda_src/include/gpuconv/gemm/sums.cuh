// A thread's results in registers: how they are summed, and where they are stored.
#pragma once

#include <gpuconv/epilogue/finish.cuh>
#include <gpuconv/gemm/tiles.cuh>

namespace gpuconv {

__device__ __forceinline__ float fma_rn(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double fma_rn(double a, double b, double c) { return __fma_rn(a, b, c); }

namespace {

// Where a thread's results lie in the block's: quads of neighbours, as far apart as the warp's lanes reach.
struct Place {
  int m, n;

  __device__ __forceinline__ Place() {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    m = warp / kWarpsN * WARP_M + lane / kLanesN * kQuadM;
    n = warp % kWarpsN * WARP_N + lane % kLanesN * kQuadN;
  }
};
constexpr int kApartM = kLanesM * kQuadM, kApartN = kLanesN * kQuadN;

// Two levels: the products of a stage, and the total of the stages. So rounding errors stay in bounds whatever the
// data.
struct Sums {
  Sum total[THREAD_M][THREAD_N];

  __device__ __forceinline__ Sums() {
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) total[i][j] = 0;
  }

  // `in` and `taps` are the thread's first cells in the stage's tiles.
  template <int Unroll>
  __device__ __forceinline__ void add_stage(const Sum* in, const Sum* taps) {
    Sum part[THREAD_M][THREAD_N];
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) part[i][j] = 0;
#pragma unroll Unroll
    for (int k = 0; k < BLOCK_K; ++k) {
      Sum a[THREAD_M], b[THREAD_N];
      read<THREAD_M, kQuadM, kApartM>(a, in + k * kPitchM);
      read<THREAD_N, kQuadN, kApartN>(b, taps + k * kPitchN);
#pragma unroll
      for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) part[i][j] = fma_rn(a[i], b[j], part[i][j]);
    }
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) total[i][j] += part[i][j];
  }

 private:
  template <int Count, int Together, int Apart>
  static __device__ __forceinline__ void read(Sum (&cells)[Count], const Sum* from) {
#pragma unroll
    for (int i = 0; i < Count; i += Together) {
      auto quad = ptx::ld_shared(reinterpret_cast<const Pack<Sum, Together>*>(from + i / Together * Apart));
#pragma unroll
      for (int j = 0; j < Together; ++j) cells[i + j] = quad[j];
    }
  }
};

// Where the rows of one quad lie in the result.
struct QuadRows {
  long long offset[kQuadM];
  int count;        // that are there
  bool neighbours;  // in memory, all of them

  __device__ __forceinline__ QuadRows(const GemmParams& params, const Block& block, int m) {
    const long long left = block.count_m - block.m - m;
    count = static_cast<int>(left < kQuadM ? left : kQuadM);
    Digits digits = block.radices.advanced(block.start, m);
#pragma unroll
    for (int e = 0; e < kQuadM; ++e) {
      offset[e] = out_offset(params, block, Pixel(digits));
      digits = block.radices.sum(digits, {1, 0, 0});
    }
    neighbours = count == kQuadM;
#pragma unroll
    for (int e = 1; e < kQuadM; ++e) neighbours = neighbours && offset[e] == offset[0] + e;
  }
};

// One column's results of a quad of rows.
template <class Finish>
__device__ __forceinline__ void store_rows(const Finish& finish, const Sum (&quad)[kQuadM], int channel,
                                           long long column, const QuadRows& rows) {
  if (rows.neighbours) return finish.store(quad, channel, 0, column + rows.offset[0], kQuadM);
#pragma unroll
  for (int e = 0; e < kQuadM; ++e) {
    const Sum one[1] = {quad[e]};
    if (e < rows.count) finish.store(one, channel, 0, column + rows.offset[e], 1);
  }
}

// Stores a thread's results: neighbours in memory together, up to 16 bytes.
template <class Finish>
__device__ __forceinline__ void store(const Finish& finish, const GemmParams& params, const Block& block,
                                      const Place& place, const Sums& sums) {
  const long long base = (SPLIT ? block.split * params.split_elements : 0) + block.g * params.out_strides.group;
#pragma unroll
  for (int i = 0; i < THREAD_M; i += kQuadM) {
    const QuadRows rows(params, block, place.m + i / kQuadM * kApartM);
#pragma unroll
    for (int j = 0; j < THREAD_N; j += kQuadN) {
      const int n = block.n + place.n + j / kQuadN * kApartN;
      const int channel = block.g * params.filters + n;
      const long long column = base + n * params.out_strides.channel;
      if constexpr (OUT_ALONG_N) {
#pragma unroll
        for (int e = 0; e < kQuadM; ++e) {
          Sum row[kQuadN];
#pragma unroll
          for (int f = 0; f < kQuadN; ++f) row[f] = sums.total[i + e][j + f];
          if (e < rows.count && n < params.filters)
            finish.store(row, channel, 1, column + rows.offset[e], params.filters - n);
        }
      } else {
#pragma unroll
        for (int f = 0; f < kQuadN; ++f) {
          if (n + f >= params.filters) break;
          Sum quad[kQuadM];
#pragma unroll
          for (int e = 0; e < kQuadM; ++e) quad[e] = sums.total[i + e][j + f];
          store_rows(finish, quad, channel + f, column + f * params.out_strides.channel, rows);
        }
      }
    }
  }
}

}  // namespace
}  // namespace gpuconv
