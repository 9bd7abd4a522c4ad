// Results counted by threads in two numbers of 31 bits: those of the inner axes by thread, the rest by rounds of
// blocks. gpuconv/kernels/cuda/gather.py makes the numbers.
#pragma once

#include <gpuconv/params.cuh>

namespace gpuconv {

// This thread's place along each axis, innermost first; false behind the last.
template <int kThreads, int kAxes>
__device__ __forceinline__ bool place_of_thread(const Count& count, unsigned (&place)[kAxes]) {
  unsigned block;
  const unsigned round = count.blocks.divmod(blockIdx.x, block);
  unsigned rest = block * kThreads + threadIdx.x;
  if (rest >= static_cast<unsigned>(count.units)) return false;
#pragma unroll
  for (int axis = 0; axis < kAxes; ++axis) {
    if (axis == count.outer) rest = round;
    rest = count.extents[axis].divmod(rest, place[axis]);
  }
  return true;
}

}  // namespace gpuconv
