// Small kernels, each for one behaviour of a device; `out` and `a` are arrays of unsigned, `n` what a test needs.
#include <gpuconv/ptx/cp_async.cuh>
#include <gpuconv/ptx/cvt.cuh>
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/ptx/shared.cuh>

namespace ptx = gpuconv::ptx;

struct Params {
  const unsigned* a;
  unsigned* out;
  int n;
  int m;
};

static unsigned* shared_words() { return reinterpret_cast<unsigned*>(ptx::dynamic_shared()); }

// The order in which threads come: each takes a number from a place in memory.
extern "C" __global__ void order(Params p) {
  unsigned number = ptx::ld_global(p.out);
  ptx::st_global(p.out, number + 1);
  ptx::st_global(p.out + 1 + number, blockIdx.x * blockDim.x + threadIdx.x);
}

// What shared memory holds before anything is written.
extern "C" __global__ void poison(Params p) {
  ptx::st_global(p.out + blockIdx.x * blockDim.x + threadIdx.x, ptx::ld_shared(shared_words() + threadIdx.x));
  __syncthreads();
  ptx::st_shared(shared_words() + threadIdx.x, 7u);
}

// Rotates a row through shared memory n times, two barriers each.
extern "C" __global__ void rotate(Params p) {
  unsigned* words = shared_words();
  unsigned next = threadIdx.x + 1 == blockDim.x ? 0 : threadIdx.x + 1;
  unsigned value = ptx::ld_global_nc(p.a + threadIdx.x);
  for (int i = 0; i < p.n; ++i) {
    ptx::st_shared(words + threadIdx.x, value);
    __syncthreads();
    value = ptx::ld_shared(words + next);
    __syncthreads();
  }
  ptx::st_global(p.out + threadIdx.x, value);
}

// A neighbour's word without a barrier: right only where the neighbour came first.
extern "C" __global__ void race(Params p) {
  ptx::st_shared(shared_words() + threadIdx.x, threadIdx.x);
  if (p.m != 0) __syncthreads();
  ptx::st_global(p.out + threadIdx.x, ptx::ld_shared(shared_words() + (threadIdx.x + unsigned(p.n)) % blockDim.x));
}

extern "C" __global__ void read_global(Params p) { ptx::st_global(p.out + threadIdx.x, ptx::ld_global_nc(p.a + p.n)); }

extern "C" __global__ void write_global(Params p) {
  if (threadIdx.x == 5) ptx::st_global(p.out + p.n, 1u);
}

extern "C" __global__ void read_pair(Params p) {
  uint2 pair = ptx::ld_global_nc(reinterpret_cast<const uint2*>(p.a + p.n));
  ptx::st_global(p.out, pair.x + pair.y);
}

extern "C" __global__ void touch_shared(Params p) { ptx::st_shared(ptx::dynamic_shared() + p.n, static_cast<unsigned char>(1)); }

// Past every wrapper: only the marked bytes around the window can tell.
extern "C" __global__ void scribble(Params p) {
  if (threadIdx.x == 0) ptx::dynamic_shared()[p.n] = 1;
}

extern "C" __global__ void trap(Params p) {
  if (threadIdx.x == 3) __trap();
}

extern "C" __global__ void check(Params p) { assert(p.n == 3); }

extern "C" __global__ void divide(Params p) { ptx::st_global(p.out, static_cast<unsigned>(p.m / p.n)); }

extern "C" __global__ void deep(Params p) {
  volatile unsigned char frame[1 << 20];
  for (int i = (1 << 20) - 1; i >= 0; i -= 512) frame[i] = static_cast<unsigned char>(p.n);
  ptx::st_global(p.out, static_cast<unsigned>(frame[4096]));
}

extern "C" __global__ void divergent(Params p) {
  if (threadIdx.x < unsigned(p.n)) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

extern "C" __global__ void early_exit(Params p) {
  if (threadIdx.x < unsigned(p.n)) return;
  __syncthreads();
}

// Lane 0 of the second warp waits for lane 1, which waits for the block.
extern "C" __global__ void deadlock(Params p) {
  if (threadIdx.x == 32) __syncwarp(3u);
  __syncthreads();
}

extern "C" __global__ void half(Params p) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (p.n == 0) ptx::st_global(p.out + i, __float_as_uint(ptx::cvt_f32_f16(static_cast<unsigned short>(i))));
  else ptx::st_global(p.out + i, static_cast<unsigned>(ptx::cvt_rn_f16_f32(__uint_as_float(ptx::ld_global_nc(p.a + i)))));
}

// A missing include of launch bounds, a division that the host prepared: what kernels use of CUDA's own.
extern "C" __global__ void __launch_bounds__(64, 2) intrinsics(Params p) {
  ptx::st_global(p.out + 0, __umulhi(0x80000000u, 6u));
  ptx::st_global(p.out + 1, static_cast<unsigned>(__popc(0xf0f0u) + __clz(1) * 100 + __ffs(8) * 10000));
  ptx::st_global(p.out + 2, __float_as_uint(__uint_as_float(0x40490fdbu)));
  ptx::st_global(p.out + 3, gridDim.x * 1000 + blockDim.y * 100 + threadIdx.z * 10);
}

// Behaviour that C++ leaves undefined.
extern "C" __global__ void overflow(Params p) { ptx::st_global(p.out, static_cast<unsigned>((2147483647 - p.m) + p.n)); }

extern "C" __global__ void local_array(Params p) {
  unsigned values[8];
  for (int i = 0; i < 8; ++i) values[i] = ptx::ld_global_nc(p.a + i);
  unsigned sum = 0;
  for (int i = 0; i < 8; ++i) sum += values[(i + p.n) ^ p.m];
  ptx::st_global(p.out, sum);
}
