// A warp's matrices: `a` holds what is loaded or multiplied, word by word; `out` gets each lane's registers.
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/ptx/ldmatrix.cuh>
#include <gpuconv/ptx/mma.cuh>
#include <gpuconv/ptx/shared.cuh>

namespace ptx = gpuconv::ptx;

struct Params {
  const unsigned* a;
  unsigned* out;
  int which, slip, rows;
};

// 32 rows of 16 bytes, `rows` bytes apart; lane i names row i, `slip` bytes on.
extern "C" __global__ void load(Params p) {
  const int lane = threadIdx.x;
  unsigned char* row = ptx::dynamic_shared() + lane * p.rows;
  for (int i = 0; i < 4; ++i) ptx::st_shared(reinterpret_cast<unsigned*>(row) + i, ptx::ld_global(p.a + 4 * lane + i));
  __syncwarp();
  unsigned matrices[4];
  if (p.which == 0) ptx::ldmatrix_x4(matrices, row + p.slip);
  else ptx::ldmatrix_x4_trans(matrices, row + p.slip);
  for (int i = 0; i < 4; ++i) ptx::st_global(p.out + 4 * lane + i, matrices[i]);
}

// Each lane brings four words of a, two of b and four of the sum.
extern "C" __global__ void multiply(Params p) {
  const int lane = threadIdx.x % 32;
  const unsigned* words = p.a + 10 * lane;
  unsigned a[4];
  float sum[4];
  for (int i = 0; i < 4; ++i) {
    a[i] = ptx::ld_global(words + i);
    sum[i] = __uint_as_float(ptx::ld_global(words + 6 + i));
  }
  if (p.slip == 1 && lane == 5) return;
  if (p.which == 0) ptx::mma_m16n8k16_f16(sum, a, ptx::ld_global(words + 4), ptx::ld_global(words + 5));
  else ptx::mma_m16n8k16_bf16(sum, a, ptx::ld_global(words + 4), ptx::ld_global(words + 5));
  for (int i = 0; i < 4; ++i) ptx::st_global(p.out + 4 * lane + i, __float_as_uint(sum[i]));
}
