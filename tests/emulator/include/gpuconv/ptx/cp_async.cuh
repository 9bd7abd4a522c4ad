// Asynchronous copies; they land at issue or at the wait that covers them, as the schedule says.
#pragma once

namespace gpuconv::ptx {

template <int Bytes>
inline void cp_async_ca(void* shared, const void* global, int src_size, ::emulator::Site site = EMULATOR_HERE) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async moves 4, 8 or 16 bytes");
  static_assert(Bytes > 0 && __CUDA_ARCH__ >= 800, "cp.async needs sm_80");
#ifdef GPUCONV_COUNT
  if (src_size > 0) ::emulator::count(::emulator::Access::global_load, global, src_size, site);
  ::emulator::count(::emulator::Access::shared_store, shared, Bytes, site);
#endif
  ::emulator::copy_async(shared, global, Bytes, src_size, site);
}

inline void cp_async_commit_group() { ::emulator::copy_async_commit(); }

template <int Newest>
inline void cp_async_wait_group() {
  ::emulator::copy_async_wait(Newest);
}

}  // namespace gpuconv::ptx
