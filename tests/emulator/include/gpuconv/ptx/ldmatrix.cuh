// Matrices from shared memory, as the warp's lanes meet.
#pragma once

namespace gpuconv::ptx {

inline void ldmatrix_x4(unsigned (&matrices)[4], const void* row, ::emulator::Site site = EMULATOR_HERE) {
  static_assert(sizeof(row) > 0 && __CUDA_ARCH__ >= 750, "ldmatrix needs sm_75");
  ::emulator::touch(::emulator::Access::shared_load, row, 16, site);
  ::emulator::load_matrices(matrices, row, false, site);
}

inline void ldmatrix_x4_trans(unsigned (&matrices)[4], const void* row, ::emulator::Site site = EMULATOR_HERE) {
  static_assert(sizeof(row) > 0 && __CUDA_ARCH__ >= 750, "ldmatrix needs sm_75");
  ::emulator::touch(::emulator::Access::shared_load, row, 16, site);
  ::emulator::load_matrices(matrices, row, true, site);
}

}  // namespace gpuconv::ptx
