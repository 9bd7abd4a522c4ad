// Numbers in three digits of radices that only the launch knows: a pixel is (column, row, image), a place in a sum is
// (column of taps, row of taps, channel); or in another order. Counted without division once they run.
#pragma once

namespace gpuconv {

struct Digits {
  int low, mid, high;
};

// The highest digit has no radix: what runs past the end shows there.
struct Radices {
  int low, mid;

  __device__ __forceinline__ Digits of(long long number) const {
    const long long rest = number / low;
    const long long high = rest / mid;
    return {static_cast<int>(number - rest * low), static_cast<int>(rest - high * mid), static_cast<int>(high)};
  }

  // By less than 2^30.
  __device__ __forceinline__ Digits advanced(Digits from, int by) const {
    const unsigned sum = from.low + static_cast<unsigned>(by), carry = sum / low;
    const unsigned sum_mid = from.mid + carry, carry_mid = sum_mid / mid;
    return {static_cast<int>(sum - carry * low), static_cast<int>(sum_mid - carry_mid * mid),
            static_cast<int>(from.high + carry_mid)};
  }

  // `by` is a number in these digits.
  __device__ __forceinline__ Digits sum(Digits a, Digits by) const {
    a.low += by.low;
    a.mid += by.mid;
    a.high += by.high;
    if (a.low >= low) {
      a.low -= low;
      ++a.mid;
    }
    if (a.mid >= mid) {
      a.mid -= mid;
      ++a.high;
    }
    return a;
  }
};

}  // namespace gpuconv
