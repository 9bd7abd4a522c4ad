// The four element types, and what each is accumulated in.
#pragma once

#include <gpuconv/ptx/cvt.cuh>

namespace gpuconv {

struct f16 {
  unsigned short bits;
};
struct bf16 {
  unsigned short bits;
};
using f32 = float;
using f64 = double;

template <class Element>
struct AccumulatorOf {
  using Type = float;
};
template <>
struct AccumulatorOf<f64> {
  using Type = double;
};
template <class Element>
using Accumulator = typename AccumulatorOf<Element>::Type;

// Exact.
__device__ __forceinline__ float widen(f16 value) { return ptx::cvt_f32_f16(value.bits); }
__device__ __forceinline__ float widen(bf16 value) { return __uint_as_float(unsigned(value.bits) << 16); }
__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ double widen(double value) { return value; }

// To the nearest, ties to even.
template <class Element>
__device__ __forceinline__ Element narrow(Accumulator<Element> value) {
  if constexpr (sizeof(Element) > 2) return value;
}
template <>
__device__ __forceinline__ f16 narrow<f16>(float value) {
  return {ptx::cvt_rn_f16_f32(value)};
}
// In integers, because sm_75 has no instruction for it: half of the dropped part's range is added, less one bit
// where the kept part is even, and a carry runs up into the exponent as it should.
template <>
__device__ __forceinline__ bf16 narrow<bf16>(float value) {
  unsigned bits = __float_as_uint(value);
  if (value != value) return {0x7fff};
  return {static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

// N elements that one instruction moves.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];

  __device__ __forceinline__ T& operator[](int i) { return values[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return values[i]; }
};

// Whether a Pack can lie at this address.
template <class P>
__device__ __forceinline__ bool is_aligned(const void* address) {
  return reinterpret_cast<unsigned long long>(address) % sizeof(P) == 0;
}

}  // namespace gpuconv
