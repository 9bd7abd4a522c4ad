// A warp's sums in registers, and how tensor cores make them.
#pragma once

#include <gpuconv/mma/tiles.cuh>
#include <gpuconv/ptx/ldmatrix.cuh>
#include <gpuconv/ptx/mma.cuh>

namespace gpuconv {
namespace {

__device__ __forceinline__ void mma(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, f16) {
  ptx::mma_m16n8k16_f16(sum, a, b0, b1);
}
__device__ __forceinline__ void mma(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, bf16) {
  ptx::mma_m16n8k16_bf16(sum, a, b0, b1);
}

// Reads squares of 16 places along the outer axis and 16 of the depth, as four matrices: those of one half of the
// outer axis or of the depth follow each other, as the instruction has its operand.
template <class Map, bool OuterFirst>
struct Squares {
  using Rows = typename Copies<Map>::Rows;
  static constexpr int kRowBytes = Copies<Map>::kRowBytes;
  int first;

  __device__ __forceinline__ explicit Squares(int outer) {
    const int lane = threadIdx.x % 32, even = lane / 8 % 2 * 8, high = lane / 16 * 8;
    const int o = outer + (OuterFirst ? even : high), k = OuterFirst ? high : even;
    const int at = lane % 8;  // of a row of shared memory
    first = Map::kAlongDepth ? Rows::place(o + at, k * 2) : Rows::place(k + at, o * 2);
  }

  // Square `o` of the warp's, `k` of the stage's, whose tile begins at a multiple of a row: so the addresses of squares
  // follow from one number of each stage, and none has to be kept.
  __device__ __forceinline__ void read(unsigned (&matrices)[4], const unsigned char* ring, int tile, int o,
                                       int k) const {
    const int row = 16 * (Map::kAlongDepth ? o : k), byte = 32 * (Map::kAlongDepth ? k : o);
    const unsigned char* from = ring + ((tile + first) ^ byte) + row * kRowBytes;
    if constexpr (Map::kAlongDepth) ptx::ldmatrix_x4(matrices, from);
    else ptx::ldmatrix_x4_trans(matrices, from);
  }
};

// Two levels: a chain that tensor cores add up, cutting off what they cannot hold, and the total of the chains. So
// rounding errors stay in bounds whatever the data.
struct Sums {
  float total[kTilesM][kTilesN][4];
  int squares;  // down the warp's rows that have a row of the product
  Squares<InMap, true> in;
  Squares<TapsMap, false> taps;

  __device__ __forceinline__ explicit Sums(const Block& block)
      : in(first_row()), taps(threadIdx.x / 32 % kWarpsN * WARP_N) {
    const long long rows = min(block.count_m - block.m, static_cast<long long>(BLOCK_M));
    squares = (static_cast<int>(rows) - first_row() + 15) / 16;
#pragma unroll
    for (int i = 0; i < kTilesM; ++i)
#pragma unroll
      for (int j = 0; j < kTilesN; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) total[i][j][e] = 0;
  }

  // The stage begins `stage` bytes into the ring. Squares of the next rows are read while those of one are multiplied;
  // the branch between them, for the last block's sake, also keeps the compiler from reading more than registers hold.
  __device__ __forceinline__ void add_stage(const unsigned char* ring, int stage) {
#pragma unroll
    for (int k = 0; k < BLOCK_K / 16; k += CHAIN) {
      unsigned a[2][CHAIN][4], b[CHAIN][kTilesN / 2][4];
#pragma unroll
      for (int c = 0; c < CHAIN; ++c) {
        in.read(a[0][c], ring, stage, 0, k + c);
#pragma unroll
        for (int j = 0; j < kTilesN / 2; ++j) taps.read(b[c][j], ring, stage + kInBytes, j, k + c);
      }
#pragma unroll
      for (int i = 0; i < kTilesM; ++i) {
        if (i >= squares) break;
        if (i + 1 < kTilesM)
#pragma unroll
          for (int c = 0; c < CHAIN; ++c) in.read(a[(i + 1) % 2][c], ring, stage, i + 1, k + c);
        add_row(total[i], a[i % 2], b);
      }
    }
  }

 private:
  static __device__ __forceinline__ int first_row() { return threadIdx.x / 32 / kWarpsN * WARP_M; }

  static __device__ __forceinline__ void add_row(float (&totals)[kTilesN][4], const unsigned (&a)[CHAIN][4],
                                                 const unsigned (&b)[CHAIN][kTilesN / 2][4]) {
#pragma unroll
    for (int j = 0; j < kTilesN; ++j) {
      float chain[4] = {0, 0, 0, 0};
#pragma unroll
      for (int c = 0; c < CHAIN; ++c) {
        const unsigned(&square)[4] = b[c][j / 2];
        mma(chain, a[c], square[j % 2 * 2], square[j % 2 * 2 + 1], Element{});
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) totals[j][e] += chain[e];
    }
  }
};

}  // namespace
}  // namespace gpuconv
