// Convolution as one matrix product without a patch matrix, by tensor cores: the correlation of tile/correlation.cuh
// for elements of 16 bits, summed in float32. Rows, columns and depth of the product, and how the grid walks it, are
// those of implicit_gemm_simt.cu.
//
// One block computes BLOCK_M × BLOCK_N results of one group and class, or with SPLIT a part of each sum. Shared memory
// is a ring of stages of BLOCK_K places of the depth; STAGES - 1 are on their way while one is multiplied:
//
//                       BLOCK_N                      shared memory
//                  ┌─────────┬──────┐                  table  if any, twice: offset and cell of a stage's places
//          BLOCK_K │  taps   │      │                  ring   STAGES times [in][taps], rows as they lie in memory:
//                  └─────────┴──────┘                         [m][k] or [k][m], [n][k] or [k][n]
//        BLOCK_K     WARP_N                            pieces of 16 bytes turned, see mma/swizzle.cuh
//       ┌───────┐  ┌─────────┬──────┐
//       │       │  │  warp   │      │ WARP_M           a warp: squares of 16 × 16 places come by ldmatrix, transposed
// BLOCK │  in   │  │         │      │                  where rows lie along the depth's other side; tensor cores add
//     M ├───────┤  ├─────────┼──────┤                  CHAIN of them to one chain, the chain joins the total
//       │       │  │         │      │
//       └───────┘  └─────────┴──────┘
//
// Iteration t waits until stage t is there and everyone is done with stage t - 1, whose place stage t + STAGES - 1
// then takes, by asynchronous copies. With copies of 16 bytes a thread has one place of the depth in each operand and
// finds for itself where that lies: ldmatrix and copies alone keep shared memory about as busy as mma.sync does
// Hopper's tensor cores. Where it has several, the first BLOCK_K threads then fill a table of the next stage for all.
// So addresses cost a few additions a copy, and a stage one barrier. Cells outside the input and places beyond the end
// of the sum are zeros on their way.
//
// Vectors of one element, and any in arrays that are not aligned for longer ones, go through registers.
//
// include/gpuconv/mma/ holds the rooms: config, tiles, swizzle, copy, places, sums, results.
#include <gpuconv/mma/places.cuh>
#include <gpuconv/mma/results.cuh>

namespace gpuconv {
namespace {

template <bool Aligned>
__device__ __forceinline__ void multiply(const GemmParams& params, const Block& block, Sums& sums) {
  unsigned char* ring = ptx::dynamic_shared() + kRingAt;
  Places places(params, block);
  In in;
  Taps taps;
  locate_in(in, params, block);
  locate_taps(taps, params, block);
  auto load = [&](int stage, int slot) {
    in.flight.tile = ring + slot * kStageBytes;
    taps.flight.tile = ring + slot * kStageBytes + kInBytes;
    if constexpr (INSIDE) in.template load<Aligned>(places.in(stage));
    else in.template load<Aligned>(places.in(stage), params.rows.in_size, params.columns.in_size);
    taps.template load<Aligned>(places.taps(stage));
    ptx::cp_async_commit_group();
  };

  // Stages that are left, this one among them, name them as well.
  int left = block.last - block.first;
  places.write(params, left, true);
  for (int t = 0; t < STAGES - 1; ++t) {
    __syncthreads();
    load(left - t, t);
    places.write(params, left - t - 1, t + 1 < left);
  }
  int slot = 0, free = STAGES - 1;
#pragma unroll 1
  for (; left > 0; --left) {
    ptx::cp_async_wait_group<STAGES - 2>();
    __syncthreads();
    load(left - (STAGES - 1), free);  // nothing but zeros where the block's part of the sum is over
    places.write(params, left - STAGES, left > STAGES);
    sums.add_stage(ring, slot * kStageBytes);
    free = slot;
    slot = slot + 1 == STAGES ? 0 : slot + 1;
  }
  ptx::cp_async_wait_group<0>();
}

}  // namespace
}  // namespace gpuconv

extern "C" __global__ void __launch_bounds__(gpuconv::kThreads, 1)
    implicit_gemm_sm80(const __grid_constant__ gpuconv::GemmParams params) {
  using namespace gpuconv;
  const Block block(params);
  if (block.m >= block.count_m) return;  // this class has fewer
  Sums sums(block);
  write_place(params, block);
  if (block.first < block.last) {
    const bool aligned = is_aligned<Pack<Element, IN_VECTOR>>(params.in) &&
                         is_aligned<Pack<Element, TAPS_VECTOR>>(params.taps);
    constexpr bool kVectors = IN_VECTOR > 1 || TAPS_VECTOR > 1;
    if (kVectors && aligned) multiply<kVectors>(params, block, sums);
    else multiply<false>(params, block, sums);
  }

  if constexpr (SPLIT) {
    const Epilogue<Sum, false, false, false> partial{static_cast<Sum*>(params.out), nullptr, nullptr};
    store(partial, params, sums);
  } else {
    const Epilogue<Element, BIAS, RESIDUAL, RELU> finish{static_cast<Element*>(params.out),
                                                         static_cast<const Element*>(params.bias),
                                                         static_cast<const Element*>(params.residual)};
    store(finish, params, sums);
  }
}
