// Products of small matrices, as the warp's lanes meet.
#pragma once

namespace gpuconv::ptx {

inline void mma_m16n8k16_f16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                             ::emulator::Site site = EMULATOR_HERE) {
  static_assert(sizeof(sum) > 0 && __CUDA_ARCH__ >= 800, "mma.m16n8k16 needs sm_80");
  ::emulator::multiply_matrices(::emulator::Half::f16, sum, a, b0, b1, site);
}

inline void mma_m16n8k16_bf16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                              ::emulator::Site site = EMULATOR_HERE) {
  static_assert(sizeof(sum) > 0 && __CUDA_ARCH__ >= 800, "mma.m16n8k16 needs sm_80");
  ::emulator::multiply_matrices(::emulator::Half::bf16, sum, a, b0, b1, site);
}

}  // namespace gpuconv::ptx
