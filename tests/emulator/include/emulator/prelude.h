// Included before every kernel: CUDA's keywords, built-in variables, vector types and intrinsics as plain C++17.
#pragma once
#include <emulator/api.h>

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __restrict__ __restrict

using size_t = decltype(sizeof(0));
using uint3 = ::emulator::Index3;
using dim3 = ::emulator::Index3;

#define threadIdx (::emulator::view.thread_index)
#define blockIdx (::emulator::view.block_index)
#define blockDim (::emulator::view.block_dim)
#define gridDim (::emulator::view.grid_dim)
constexpr int warpSize = 32;

#define EMULATOR_VECTOR2(name, type)                                   \
  struct alignas(2 * sizeof(type)) name {                              \
    type x, y;                                                         \
  };                                                                   \
  inline name make_##name(type x, type y) { return name{x, y}; }
#define EMULATOR_VECTOR4(name, type)                                   \
  struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name { \
    type x, y, z, w;                                                   \
  };                                                                   \
  inline name make_##name(type x, type y, type z, type w) { return name{x, y, z, w}; }
EMULATOR_VECTOR2(char2, signed char)
EMULATOR_VECTOR2(uchar2, unsigned char)
EMULATOR_VECTOR2(short2, short)
EMULATOR_VECTOR2(ushort2, unsigned short)
EMULATOR_VECTOR2(int2, int)
EMULATOR_VECTOR2(uint2, unsigned)
EMULATOR_VECTOR2(float2, float)
EMULATOR_VECTOR2(double2, double)
EMULATOR_VECTOR4(char4, signed char)
EMULATOR_VECTOR4(uchar4, unsigned char)
EMULATOR_VECTOR4(short4, short)
EMULATOR_VECTOR4(ushort4, unsigned short)
EMULATOR_VECTOR4(int4, int)
EMULATOR_VECTOR4(uint4, unsigned)
EMULATOR_VECTOR4(float4, float)

// The C library's, declared here because its headers take long to read.
extern "C" {
float fmaf(float, float, float) noexcept;
double fma(double, double, double) noexcept;
float sqrtf(float) noexcept;
float fabsf(float) noexcept;
float fmaxf(float, float) noexcept;
float fminf(float, float) noexcept;
float expf(float) noexcept;
float tanhf(float) noexcept;
float erff(float) noexcept;
}

template <class To, class From>
inline To emulator_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "sizes differ");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}
inline unsigned __float_as_uint(float value) { return emulator_bits<unsigned>(value); }
inline int __float_as_int(float value) { return emulator_bits<int>(value); }
inline float __uint_as_float(unsigned bits) { return emulator_bits<float>(bits); }
inline float __int_as_float(int bits) { return emulator_bits<float>(bits); }

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value)); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>((static_cast<long long>(a) * b) >> 32); }
inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

template <class T>
inline T __ldg(const T* address, ::emulator::Site site = EMULATOR_HERE) {
  ::emulator::touch(::emulator::Access::global_load, address, sizeof(T), site);
  return *address;
}

[[noreturn]] inline void __trap(::emulator::Site site = EMULATOR_HERE) { ::emulator::fail(site, "__trap()"); }
#define assert(condition) \
  ((condition) ? void(0) : ::emulator::fail(EMULATOR_HERE, "assertion failed: %s", #condition))

inline void __syncthreads(::emulator::Site site = EMULATOR_HERE) { ::emulator::barrier(site); }
inline void __syncwarp(unsigned mask = 0xffffffffu, ::emulator::Site site = EMULATOR_HERE) {
  ::emulator::warp_rendezvous("__syncwarp", mask, nullptr, nullptr, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, ::emulator::Site site = EMULATOR_HERE) {
  return ::emulator::ballot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, ::emulator::Site site = EMULATOR_HERE) {
  return ::emulator::ballot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, ::emulator::Site site = EMULATOR_HERE) {
  return ::emulator::ballot(mask, predicate == 0, site) == 0;
}

template <class T>
inline T emulator_shuffle(::emulator::ShuffleMode mode, unsigned mask, T value, int operand, int width,
                          ::emulator::Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  unsigned long long bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = ::emulator::shuffle(mode, mask, bits, operand, width, site);
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}
template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, ::emulator::Site site = EMULATOR_HERE) {
  return emulator_shuffle(::emulator::ShuffleMode::index, mask, value, lane, width, site);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, ::emulator::Site site = EMULATOR_HERE) {
  return emulator_shuffle(::emulator::ShuffleMode::up, mask, value, static_cast<int>(by), width, site);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, ::emulator::Site site = EMULATOR_HERE) {
  return emulator_shuffle(::emulator::ShuffleMode::down, mask, value, static_cast<int>(by), width, site);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32, ::emulator::Site site = EMULATOR_HERE) {
  return emulator_shuffle(::emulator::ShuffleMode::butterfly, mask, value, by, width, site);
}
