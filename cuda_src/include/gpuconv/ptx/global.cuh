// Global memory.
#pragma once

namespace gpuconv::ptx {

// ld.global.nc of 1, 2, 4, 8 or 16 bytes: the memory is not written while the kernel runs. The address is a multiple
// of the size.
template <class T>
__device__ __forceinline__ T ld_global_nc(const T* address) {
  union Bits {
    T value;
    unsigned char b1;
    unsigned short b2;
    unsigned b4;
    uint2 b8;
    uint4 b16;
    __device__ Bits() {}
  } bits;
  if constexpr (sizeof(T) == 1) bits.b1 = __ldg(reinterpret_cast<const unsigned char*>(address));
  else if constexpr (sizeof(T) == 2) bits.b2 = __ldg(reinterpret_cast<const unsigned short*>(address));
  else if constexpr (sizeof(T) == 4) bits.b4 = __ldg(reinterpret_cast<const unsigned*>(address));
  else if constexpr (sizeof(T) == 8) bits.b8 = __ldg(reinterpret_cast<const uint2*>(address));
  else {
    static_assert(sizeof(T) == 16, "ld.global.nc moves 1, 2, 4, 8 or 16 bytes");
    bits.b16 = __ldg(reinterpret_cast<const uint4*>(address));
  }
  return bits.value;
}

// ld.global of 2 to 16 bytes; the address is a multiple of the size.
template <class T>
__device__ __forceinline__ T ld_global(const T* address) {
  return *address;
}

// st.global of 2 to 16 bytes; the address is a multiple of the size.
template <class T>
__device__ __forceinline__ void st_global(T* address, T value) {
  *address = value;
}

}  // namespace gpuconv::ptx
