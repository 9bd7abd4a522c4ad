// Division of a 31-bit number by a divisor known before the launch: one multiplication and one shift.
//
// For d > 1 let l = ceil(log2 d) and m = ceil(2^(31+l) / d). Then m < 2^32 and, for every n < 2^31,
// floor(n / d) = (n * m) >> (31 + l): the error n * (m - 2^(31+l) / d) / 2^(31+l) is below n / 2^(31+l) <= 1 / d
// of the gap to the next multiple. (Granlund and Montgomery, "Division by Invariant Integers using
// Multiplication", PLDI 1994.)
//
// The host fills the struct and passes it to the kernel by value; nothing is computed on the device.
#pragma once

namespace gpuconv {

struct FastDivmod {
  unsigned divisor;     // 1 .. 2^31 - 1
  unsigned multiplier;  // m, or 0 for a divisor of 1
  unsigned shift;       // l - 1: the high half of the product is already shifted by 32

  __host__ __device__ static FastDivmod of(unsigned divisor) {
    if (divisor == 1) return {1, 0, 0};
    unsigned l = 1;
    while (l < 31 && (1u << l) < divisor) ++l;
    unsigned long long power = 1ull << (31 + l);
    return {divisor, static_cast<unsigned>((power + divisor - 1) / divisor), l - 1};
  }

  // n < 2^31
  __host__ __device__ unsigned div(unsigned n) const {
    unsigned high = static_cast<unsigned>((static_cast<unsigned long long>(n) * multiplier) >> 32);
    return multiplier == 0 ? n : high >> shift;
  }

  __host__ __device__ unsigned divmod(unsigned n, unsigned& remainder) const {
    unsigned quotient = div(n);
    remainder = n - quotient * divisor;
    return quotient;
  }
};

}  // namespace gpuconv
