// Collectives of a warp; OPERATION picks the one, `n` and `width` are its operands.
#include <gpuconv/ptx/global.cuh>

namespace ptx = gpuconv::ptx;

struct Params {
  const unsigned* a;
  unsigned* out;
  int n;
  int width;
};

static void store(Params p, unsigned value) { ptx::st_global(p.out + threadIdx.x, value); }

extern "C" __global__ void shuffle_index(Params p) { store(p, __shfl_sync(~0u, threadIdx.x, p.n, p.width)); }
extern "C" __global__ void shuffle_up(Params p) { store(p, __shfl_up_sync(~0u, threadIdx.x, p.n, p.width)); }
extern "C" __global__ void shuffle_down(Params p) { store(p, __shfl_down_sync(~0u, threadIdx.x, p.n, p.width)); }
extern "C" __global__ void shuffle_xor(Params p) { store(p, __shfl_xor_sync(~0u, threadIdx.x, p.n, p.width)); }
extern "C" __global__ void vote(Params p) { store(p, __ballot_sync(~0u, threadIdx.x % p.n == 0)); }

extern "C" __global__ void sum(Params p) {
  double value = threadIdx.x;
  for (int by = 16; by > 0; by /= 2) value += __shfl_xor_sync(~0u, value, by);
  store(p, static_cast<unsigned>(value));
}

// Two halves of a warp, each on its own.
extern "C" __global__ void halves(Params p) {
  unsigned mine = threadIdx.x % 32 < 16 ? 0xffffu : 0xffff0000u;
  store(p, __ballot_sync(mine, threadIdx.x % 2));
}

extern "C" __global__ void wrong_mask(Params p) { __syncwarp(threadIdx.x == 7 ? ~0x80u : ~0u); }

extern "C" __global__ void two_masks(Params p) { __syncwarp(threadIdx.x < 16 ? ~0u : 0xffff0000u); }

extern "C" __global__ void two_lines(Params p) {
  if (threadIdx.x < 16) __syncwarp();
  else __syncwarp();
}

extern "C" __global__ void gone_lane(Params p) {
  if (threadIdx.x == 9) return;
  store(p, __shfl_sync(~0u, threadIdx.x, p.n));
}
