// out[i] = 2 * a[i], by way of shared memory that another thread of the block filled.
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/ptx/shared.cuh>

namespace ptx = gpuconv::ptx;

struct Params {
  const float* a;
  float* out;
  int count;
  int slip;  // elements beyond the array that are read and written
};

extern "C" __global__ void scale(Params p) {
  float* shared = reinterpret_cast<float*>(ptx::dynamic_shared());
  int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  int mirrored = static_cast<int>(blockDim.x - 1 - threadIdx.x);
  ptx::st_shared(shared + threadIdx.x, i < p.count ? ptx::ld_global_nc(p.a + i) : 0.0f);
  __syncthreads();
  float value = ptx::ld_shared(shared + mirrored);
  int target = static_cast<int>(blockIdx.x * blockDim.x) + mirrored;
  if (target < p.count) ptx::st_global(p.out + target + p.slip, 2 * value);
}
