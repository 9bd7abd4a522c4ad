// Shared memory of a block; every access is checked against the window and its alignment.
#pragma once

namespace gpuconv::ptx {

inline unsigned char* dynamic_shared() { return ::emulator::view.window; }

template <class T>
inline T ld_shared(const T* address, ::emulator::Site site = EMULATOR_HERE) {
  ::emulator::touch(::emulator::Access::shared_load, address, sizeof(T), site);
  return *address;
}

template <class T>
inline void st_shared(T* address, T value, ::emulator::Site site = EMULATOR_HERE) {
  ::emulator::touch(::emulator::Access::shared_store, address, sizeof(T), site);
  *address = value;
}

}  // namespace gpuconv::ptx
