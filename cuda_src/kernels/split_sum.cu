// Adds the partial sums of a kernel whose sums were split over blocks, always in the order of the splits, and ends
// as any kernel does. Thread e takes result e.
#include <gpuconv/epilogue/config.cuh>
#include <gpuconv/epilogue/finish.cuh>
#include <gpuconv/params.cuh>

#ifndef BLOCK_THREADS
#define BLOCK_THREADS 128
#endif

namespace gpuconv {
namespace {
using Element = ELEMENT;
using Sum = Accumulator<Element>;
}  // namespace
}  // namespace gpuconv

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    split_sum(const __grid_constant__ gpuconv::SplitSumParams params) {
  using namespace gpuconv;
  const unsigned element = blockIdx.x * BLOCK_THREADS + threadIdx.x;
  if (element >= static_cast<unsigned>(params.elements)) return;
  const Sum* from = static_cast<const Sum*>(params.partial) + element;
  Sum sum[1] = {0};
#pragma unroll 4
  for (int split = 0; split < params.splits; ++split) {
    sum[0] += ptx::ld_global_nc(from);
    from += params.elements;
  }
  unsigned channel;
  params.channels.divmod(params.channel_stride.div(element), channel);
  const Epilogue<Element, BIAS, RESIDUAL, RELU> finish{static_cast<Element*>(params.out),
                                                       static_cast<const Element*>(params.bias),
                                                       static_cast<const Element*>(params.residual)};
  finish.store(sum, channel, 0, element, 1);
}
