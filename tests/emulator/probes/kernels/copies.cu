// Asynchronous copies of PIECE bytes; `a` is read, `out` written by words.
#include <gpuconv/ptx/cp_async.cuh>
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/ptx/shared.cuh>

#ifndef PIECE
#define PIECE 16
#endif

namespace ptx = gpuconv::ptx;

struct Params {
  const unsigned char* a;
  unsigned* out;
  int source_bytes;
  int source_slip, target_slip;
};

static void dump(Params p, int words) {
  for (int i = 0; i < words; ++i) {
    ptx::st_global(p.out + i, ptx::ld_shared(reinterpret_cast<const unsigned*>(ptx::dynamic_shared()) + i));
  }
}

extern "C" __global__ void piece(Params p) {
  ptx::cp_async_ca<PIECE>(ptx::dynamic_shared() + p.target_slip, p.a + p.source_slip, p.source_bytes);
  ptx::cp_async_commit_group();
  ptx::cp_async_wait_group<0>();
  dump(p, 4);
}

// Three groups of one word each, and a word in no group; what is there with at most source_bytes under way.
extern "C" __global__ void groups(Params p) {
  for (int i = 0; i < 3; ++i) {
    ptx::cp_async_ca<4>(ptx::dynamic_shared() + 4 * i, p.a + 4 * i, 4);
    ptx::cp_async_commit_group();
  }
  ptx::cp_async_ca<4>(ptx::dynamic_shared() + 12, p.a + 12, 4);
  if (p.source_bytes == 0) ptx::cp_async_wait_group<0>();
  if (p.source_bytes == 1) ptx::cp_async_wait_group<1>();
  if (p.source_bytes == 2) ptx::cp_async_wait_group<2>();
  dump(p, 4);
}

// The source changes after the copy was issued.
extern "C" __global__ void late_source(Params p) {
  unsigned* words = p.out + 4;
  ptx::cp_async_ca<4>(ptx::dynamic_shared(), words, 4);
  ptx::cp_async_commit_group();
  ptx::st_global(words, 99u);
  ptx::cp_async_wait_group<0>();
  dump(p, 1);
}

// Nothing waits; the copy lands when its thread has ended.
extern "C" __global__ void unwaited(Params p) {
  if (threadIdx.x == 0) {
    ptx::cp_async_ca<4>(ptx::dynamic_shared(), p.a, 4);
    if (p.source_bytes != 0) ptx::cp_async_commit_group();
    return;
  }
  for (int i = 0; i < 2; ++i) __syncwarp(2u);
  if (threadIdx.x == 1) dump(p, 1);
}
