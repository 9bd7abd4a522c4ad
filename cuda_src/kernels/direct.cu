// Direct convolution: fprop, dgrad and wgrad as one correlation,
//
//   out[n, g, k, i, j] = Σ over c, r, s of  in[n, g, c, i STRIDE_H + r DILATION_H, j STRIDE_W + s DILATION_W]
//                                          · taps[g, k, c, r, s]
//
// with cells outside the input zero, or as BORDER has it. For wgrad, n counts input channels and c images; see
// tile/correlation.cuh.
//
// One block computes BLOCK_N × BLOCK_G × BLOCK_K × BLOCK_P × BLOCK_Q results. It walks the sum in stages of
// BLOCK_C channels × TAPS_R × TAPS_S taps; for each, all threads fill shared memory and then read it:
//
//   shared memory, STAGES times over:
//     in    the halo tile: every cell that a result of the block meets in this stage
//             planar        [n][g][c][row][column]    columns are neighbours in memory (NCHW)
//             interleaved   [row][column][·][·][·]    channels are (NHWC); last comes the axis they belong to
//     taps  [c][r][s][g][k], or [g][c][r][s][k] where neither outputs nor groups are neighbours in memory
//
// A thread holds THREAD_P × THREAD_Q neighbouring pixels of THREAD_K outputs in registers. It slides down the rows
// of the halo tile, reads of each the window of columns it needs once, and adds it to every result it meets. Long sums
// have two levels (LONG_SUM): some rows of taps are summed, then join the total. So their rounding errors stay in
// bounds whatever the data.
//
// include/gpuconv/direct/ holds the rooms: config, tiles, block, sums.
#include <gpuconv/direct/sums.cuh>

extern "C" __global__ void __launch_bounds__(gpuconv::kThreads, 1)
    direct(const __grid_constant__ gpuconv::DirectParams params) {
  using namespace gpuconv;
  const Block block(params);
  if (block.p >= block.rows.count || block.q >= block.columns.count) return;  // this class has fewer

  Sum* shared = reinterpret_cast<Sum*>(ptx::dynamic_shared());
  const Place place;
  const int in_first = place.n * InTile::stride(kLane) + place.g * InTile::stride(kGroup) +
                       place.p * kTileStrideH * InTile::stride(kRow) +
                       (LEAD + place.q * kTileStrideW) * InTile::stride(kColumn);
  const int taps_first = kInCells + place.g * TapsTile::stride(kGroup) + place.k;

  Loader loader(params, block);
  const int first = block.split * params.stages_per_split;
  const int last = min(first + params.stages_per_split, params.stages);
  Stage loading(params, first), stage = loading;
  Sums sums;
  auto buffer = [&](int t) { return shared + t % STAGES * (kInCells + kTapsCells); };
  auto load = [&](int t) {
    if (t < last) {
      loader.load(loading, buffer(t - first));
      loading.next(params);
    }
    if constexpr (kAsync) ptx::cp_async_commit_group();
  };

  if constexpr (kAsync) {
#pragma unroll
    for (int t = 0; t < STAGES - 1; ++t) load(first + t);
  }
  for (int t = first; t < last; ++t) {
    if constexpr (kAsync) {
      ptx::cp_async_wait_group<STAGES - 2>();
      __syncthreads();  // everyone's copies of stage t are there, and everyone is done with stage t − 1
      load(t + STAGES - 1);
    } else {
      load(t);
      __syncthreads();
    }
    const Sum* tile = buffer(t - first);
    const int channels = min(BLOCK_C, params.channels - stage.c);
#pragma unroll 1
    for (int c = 0; c < channels; ++c)
      sums.add_channel(tile + in_first + c * InTile::stride(kChannel),
                       tile + taps_first + c * TapsTile::stride(kChannel),
                       block.rows.taps - stage.r, block.columns.taps - stage.s, params.flush_rows);
    stage.next(params);
    if constexpr (!kAsync) __syncthreads();  // before the next stage is written over this one
  }

  if constexpr (PARTIAL) {
    const Epilogue<Sum, false, false, false> partial{static_cast<Sum*>(params.out), nullptr, nullptr};
    store<Sum>(partial, params, block, place, sums);
  } else {
    const Epilogue<Element, BIAS, RESIDUAL, RELU> finish{static_cast<Element*>(params.out),
                                                         static_cast<const Element*>(params.bias),
                                                         static_cast<const Element*>(params.residual)};
    store<Element>(finish, params, block, place, sums);
  }
}
