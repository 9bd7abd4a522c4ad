// Copies from global to shared memory that do not wait; sm_80 and later.
#pragma once

namespace gpuconv::ptx {

// cp.async of 4, 8 or 16 bytes; both addresses are multiples of that. Bytes from src_size on are zeros, and with
// src_size = 0 the source is not read.
template <int Bytes>
__device__ __forceinline__ void cp_async_ca(void* shared, const void* global, int src_size) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async moves 4, 8 or 16 bytes");
  unsigned window = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(window), "l"(global), "n"(Bytes), "r"(src_size)
               : "memory");
}

__device__ __forceinline__ void cp_async_commit_group() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// Waits until at most Newest of this thread's groups are under way.
template <int Newest>
__device__ __forceinline__ void cp_async_wait_group() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Newest) : "memory");
}

}  // namespace gpuconv::ptx
