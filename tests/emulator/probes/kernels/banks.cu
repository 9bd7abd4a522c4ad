// Patterns of access whose costs are known; lane i of each access starts at byte i * stride.
#include <gpuconv/ptx/cp_async.cuh>
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/ptx/shared.cuh>

namespace ptx = gpuconv::ptx;

struct Params {
  const unsigned char* a;
  unsigned char* out;
  int stride;
  int base;
};

template <class T>
static void shared_store(Params p) {
  ptx::st_shared(reinterpret_cast<T*>(ptx::dynamic_shared() + p.base + threadIdx.x * p.stride), T{});
}

extern "C" __global__ void shared2(Params p) { shared_store<unsigned short>(p); }
extern "C" __global__ void shared4(Params p) { shared_store<unsigned>(p); }
extern "C" __global__ void shared8(Params p) { shared_store<uint2>(p); }
extern "C" __global__ void shared16(Params p) { shared_store<uint4>(p); }

extern "C" __global__ void global4(Params p) {
  auto at = reinterpret_cast<const unsigned*>(p.a + p.base + threadIdx.x * p.stride);
  unsigned value = ptx::ld_global_nc(at);
  if (value == 12345) ptx::st_global(reinterpret_cast<unsigned*>(p.out), value);
}

extern "C" __global__ void global16(Params p) {
  auto at = reinterpret_cast<const uint4*>(p.a + p.base + threadIdx.x * p.stride);
  uint4 value = ptx::ld_global_nc(at);
  if (value.x == 12345) ptx::st_global(reinterpret_cast<unsigned*>(p.out), value.y);
}

extern "C" __global__ void copy16(Params p) {
  ptx::cp_async_ca<16>(ptx::dynamic_shared() + threadIdx.x * 16, p.a + p.base + threadIdx.x * p.stride, 16);
}

// Only some lanes, and more of them the second time.
extern "C" __global__ void some_lanes(Params p) {
  for (unsigned i = 1; i <= 2; ++i)
    if (threadIdx.x < 8 * i) ptx::st_shared(reinterpret_cast<unsigned*>(ptx::dynamic_shared()) + threadIdx.x, i);
}
