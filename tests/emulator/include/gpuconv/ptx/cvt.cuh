// Conversions by the processor's own half-precision type, which rounds to nearest even.
#pragma once

namespace gpuconv::ptx {

inline float cvt_f32_f16(unsigned short bits) { return static_cast<float>(emulator_bits<_Float16>(bits)); }

inline unsigned short cvt_rn_f16_f32(float value) {
  if (value != value) return 0x7fff;  // PTX has one NaN
  return emulator_bits<unsigned short>(static_cast<_Float16>(value));
}

}  // namespace gpuconv::ptx
