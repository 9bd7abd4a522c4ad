// Global memory; alignment is checked here, bounds by the pages around every array.
#pragma once

namespace gpuconv::ptx {

template <class T>
inline T ld_global_nc(const T* address, ::emulator::Site site = EMULATOR_HERE) {
  static_assert(sizeof(T) <= 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16,
                "ld.global.nc moves 1, 2, 4, 8 or 16 bytes");
  ::emulator::touch(::emulator::Access::global_load, address, sizeof(T), site);
  return *address;
}

template <class T>
inline T ld_global(const T* address, ::emulator::Site site = EMULATOR_HERE) {
  ::emulator::touch(::emulator::Access::global_load, address, sizeof(T), site);
  return *address;
}

template <class T>
inline void st_global(T* address, T value, ::emulator::Site site = EMULATOR_HERE) {
  ::emulator::touch(::emulator::Access::global_store, address, sizeof(T), site);
  *address = value;
}

}  // namespace gpuconv::ptx
