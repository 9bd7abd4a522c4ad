// One entry for each wrapper of an instruction: what it gives goes to `out`, word by word, so that a GPU's answers
// can be held against the emulator's.
#include <gpuconv/fast_divmod.cuh>
#include <gpuconv/ptx/cp_async.cuh>
#include <gpuconv/ptx/cvt.cuh>
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/ptx/ldmatrix.cuh>
#include <gpuconv/ptx/mma.cuh>
#include <gpuconv/ptx/shared.cuh>

#ifndef PIECE
#define PIECE 16
#endif

namespace ptx = gpuconv::ptx;

struct Params {
  const unsigned* a;
  unsigned* out;
  int n;
  int m;
};

__device__ __forceinline__ unsigned number() { return blockIdx.x * blockDim.x + threadIdx.x; }

extern "C" __global__ void widen(Params p) {
  unsigned i = number();
  unsigned short bits = static_cast<unsigned short>(ptx::ld_global_nc(p.a + i));
  ptx::st_global(p.out + i, __float_as_uint(ptx::cvt_f32_f16(bits)));
}

extern "C" __global__ void narrow(Params p) {
  unsigned i = number();
  ptx::st_global(p.out + i, static_cast<unsigned>(ptx::cvt_rn_f16_f32(__uint_as_float(ptx::ld_global_nc(p.a + i)))));
}

// Thread i copies PIECE bytes of which the source has i; shared memory held other bytes before.
extern "C" __global__ void zero_fill(Params p) {
  unsigned char* mine = ptx::dynamic_shared() + 16 * threadIdx.x;
  for (int i = 0; i < 4; ++i) ptx::st_shared(reinterpret_cast<unsigned*>(mine) + i, 0xa5a5a5a5u);
  ptx::cp_async_ca<PIECE>(mine, reinterpret_cast<const unsigned char*>(p.a) + 16 * threadIdx.x,
                          static_cast<int>(threadIdx.x));
  ptx::cp_async_commit_group();
  ptx::cp_async_wait_group<0>();
  for (int i = 0; i < 4; ++i) {
    ptx::st_global(p.out + 4 * threadIdx.x + i, ptx::ld_shared(reinterpret_cast<unsigned*>(mine) + i));
  }
}

// A ring of four groups, the newest two still under way when the oldest is read; and through it a neighbour's data.
extern "C" __global__ void groups(Params p) {
  unsigned* words = reinterpret_cast<unsigned*>(ptx::dynamic_shared());
  unsigned sum = 0;
  for (int stage = 0; stage < p.n + 2; ++stage) {
    if (stage < p.n) {
      ptx::cp_async_ca<4>(words + (stage % 4) * blockDim.x + threadIdx.x, p.a + stage * blockDim.x + threadIdx.x, 4);
    }
    ptx::cp_async_commit_group();
    ptx::cp_async_wait_group<2>();
    __syncthreads();
    if (stage >= 2) {
      unsigned next = (threadIdx.x + 1) % blockDim.x;
      sum = sum * 31u + ptx::ld_shared(words + ((stage - 2) % 4) * blockDim.x + next);
    }
    __syncthreads();
  }
  ptx::st_global(p.out + threadIdx.x, sum);
}

// Loads and stores of 2 to 16 bytes: global through the read-only path, shared, global, and back.
template <class T>
__device__ __forceinline__ void relay(const unsigned* a, unsigned* out) {
  T* mine = reinterpret_cast<T*>(ptx::dynamic_shared()) + threadIdx.x;
  ptx::st_shared(mine, ptx::ld_global_nc(reinterpret_cast<const T*>(a) + threadIdx.x));
  __syncthreads();
  unsigned from = blockDim.x - 1 - threadIdx.x;
  T* target = reinterpret_cast<T*>(out);
  ptx::st_global(target + threadIdx.x, ptx::ld_shared(reinterpret_cast<T*>(ptx::dynamic_shared()) + from));
  ptx::st_global(target + blockDim.x + threadIdx.x, ptx::ld_global(reinterpret_cast<const T*>(a) + from));
}

extern "C" __global__ void vectors(Params p) {
  if (p.n == 2) relay<unsigned short>(p.a, p.out);
  if (p.n == 4) relay<unsigned>(p.a, p.out);
  if (p.n == 8) relay<uint2>(p.a, p.out);
  if (p.n == 16) relay<uint4>(p.a, p.out);
}

// Four matrices of 8 × 8, as they are and transposed.
extern "C" __global__ void matrices(Params p) {
  unsigned char* row = ptx::dynamic_shared() + 16 * threadIdx.x;
  for (int i = 0; i < 4; ++i) {
    ptx::st_shared(reinterpret_cast<unsigned*>(row) + i, ptx::ld_global_nc(p.a + 4 * threadIdx.x + i));
  }
  __syncwarp();
  unsigned found[4];
  if (p.n == 0) ptx::ldmatrix_x4(found, row);
  else ptx::ldmatrix_x4_trans(found, row);
  for (int i = 0; i < 4; ++i) ptx::st_global(p.out + 4 * threadIdx.x + i, found[i]);
}

// Each lane brings four words of a, two of b and a sum of four.
extern "C" __global__ void multiply(Params p) {
  const unsigned* words = p.a + 10 * threadIdx.x;
  unsigned a[4];
  float sum[4];
  for (int i = 0; i < 4; ++i) {
    a[i] = ptx::ld_global_nc(words + i);
    sum[i] = __uint_as_float(ptx::ld_global_nc(words + 6 + i));
  }
  const unsigned b0 = ptx::ld_global_nc(words + 4), b1 = ptx::ld_global_nc(words + 5);
  if (p.n == 0) ptx::mma_m16n8k16_f16(sum, a, b0, b1);
  else ptx::mma_m16n8k16_bf16(sum, a, b0, b1);
  for (int i = 0; i < 4; ++i) ptx::st_global(p.out + 4 * threadIdx.x + i, __float_as_uint(sum[i]));
}

// a holds divisors; out, for each, quotient and remainder of numbers near its multiples and near 2^31.
extern "C" __global__ void divmod(Params p) {
  unsigned divisor = ptx::ld_global_nc(p.a + blockIdx.x);
  gpuconv::FastDivmod fast = gpuconv::FastDivmod::of(divisor);
  unsigned last = 0x7fffffffu;
  unsigned multiple = divisor * ((threadIdx.x * 0x01234567u & last) / divisor);
  unsigned n = threadIdx.x % 4 == 0 ? last - threadIdx.x : multiple + threadIdx.x % 4 - 2;
  unsigned remainder;
  unsigned quotient = fast.divmod(n & last, remainder);
  ptx::st_global(p.out + 2 * number(), quotient);
  ptx::st_global(p.out + 2 * number() + 1, remainder);
}

// The last word of all the shared memory that a block may ask for.
extern "C" __global__ void large_shared(Params p) {
  unsigned* words = reinterpret_cast<unsigned*>(ptx::dynamic_shared());
  ptx::st_shared(words + p.n / 4 - blockDim.x + threadIdx.x, threadIdx.x * 3u + 1u);
  __syncthreads();
  ptx::st_global(p.out + threadIdx.x, ptx::ld_shared(words + p.n / 4 - 1 - threadIdx.x));
}
