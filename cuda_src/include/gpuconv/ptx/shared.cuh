// Shared memory of a block, which is all dynamic: one window, its size known at launch.
#pragma once

namespace gpuconv::ptx {

// First byte of the window; aligned to 16 bytes.
__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char gpuconv_shared[];
  return gpuconv_shared;
}

// ld.shared of 1 to 16 bytes; the address is a multiple of the size.
template <class T>
__device__ __forceinline__ T ld_shared(const T* address) {
  return *address;
}

// st.shared of 1 to 16 bytes; the address is a multiple of the size.
template <class T>
__device__ __forceinline__ void st_shared(T* address, T value) {
  *address = value;
}

}  // namespace gpuconv::ptx
