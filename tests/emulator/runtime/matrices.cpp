// ldmatrix and mma.sync.m16n8k16, with the fragments of the PTX ISA: "Warp-level matrix load instruction" and "Matrix
// fragments for mma.m16n8k16".
#include "scheduler.h"

#include <cmath>
#include <cstring>

namespace emulator {
namespace {

struct Load {
  unsigned* matrices;
  const unsigned char* row;
};

// .sync.aligned: every lane of the warp
void all_there(const char* what, unsigned alive) {
  if (alive != ~0u) fail(run.current->site, "%s: lanes of the warp have exited", what);
}

uint16_t element(void* const* brought, int matrix, int row, int column) {
  uint16_t bits;
  std::memcpy(&bits, static_cast<const Load*>(brought[8 * matrix + row])->row + 2 * column, 2);
  return bits;
}

template <bool Transposed>
void combine_load(void* const* brought, unsigned, unsigned alive) {
  all_there("ldmatrix", alive);
  for (int lane = 0; lane < warp_lanes; ++lane) {
    const int g = lane / 4, t = 2 * (lane % 4);
    for (int matrix = 0; matrix < 4; ++matrix) {
      const unsigned low = Transposed ? element(brought, matrix, t, g) : element(brought, matrix, g, t);
      const unsigned high = Transposed ? element(brought, matrix, t + 1, g) : element(brought, matrix, g, t + 1);
      static_cast<Load*>(brought[lane])->matrices[matrix] = low | high << 16;
    }
  }
}

struct Product {
  float* sum;
  const unsigned* a;
  unsigned b[2];
};

double widened(Half half, unsigned bits) {
  if (half == Half::bf16) {
    bits <<= 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  const uint64_t sign = uint64_t{bits >> 15} << 63, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 0) return (sign ? -1 : 1) * static_cast<double>(fraction) / (1 << 24);
  uint64_t wide = sign | (exponent == 31 ? 2047 : exponent - 15 + 1023) << 52 | fraction << 42;
  double value;
  std::memcpy(&value, &wide, 8);
  return value;
}

float toward_zero(double value) {
  float near = static_cast<float>(value);
  return std::fabs(static_cast<double>(near)) > std::fabs(value) ? std::nextafterf(near, 0.0f) : near;
}

// Eight exact products and a sum before them, as Ampere's tensor cores add: all are cut off, toward zero, one bit below
// the last of the largest, and their exact sum is cut off to a float. (Fasi, Higham, Mikaitis, Pranesh, "Numerical
// behavior of NVIDIA tensor cores", PeerJ Computer Science 7, 2021; Khattak, Mikaitis, "Accurate models of NVIDIA tensor
// cores", 2025.)
float add(const double (&products)[8], float before) {
  double largest = std::fabs(static_cast<double>(before)), plain = before;
  for (double product : products) {
    largest = std::fmax(largest, std::fabs(product));
    plain += product;
  }
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  if (largest == 0) return before;
  uint64_t bits;
  std::memcpy(&bits, &largest, 8);
  const int exponent = static_cast<int>(bits >> 52) - 1023;
  const uint64_t down = static_cast<uint64_t>(1023 + 24 - exponent) << 52;
  const uint64_t up = static_cast<uint64_t>(1023 - 24 + exponent) << 52;
  double to_units, unit;
  std::memcpy(&to_units, &down, 8);
  std::memcpy(&unit, &up, 8);
  int32_t sum = static_cast<int32_t>(before * to_units);
  for (double product : products) sum += static_cast<int32_t>(product * to_units);
  return toward_zero(sum * unit);
}

template <Half Kind>
void combine_product(void* const* brought, unsigned, unsigned alive) {
  all_there("mma.sync", alive);
  double a[16][16], b[8][16];
  for (int lane = 0; lane < warp_lanes; ++lane) {
    const Product& mine = *static_cast<Product*>(brought[lane]);
    const int g = lane / 4, t = 2 * (lane % 4);
    for (int i = 0; i < 8; ++i) {  // a0 .. a7
      const int row = i == 0 || i == 1 || i == 4 || i == 5 ? g : g + 8;
      const int column = t + (i & 1) + (i < 4 ? 0 : 8);
      a[row][column] = widened(Kind, mine.a[i / 2] >> 16 * (i & 1) & 0xffff);
    }
    for (int i = 0; i < 4; ++i)  // b0 .. b3
      b[g][t + (i & 1) + (i < 2 ? 0 : 8)] = widened(Kind, mine.b[i / 2] >> 16 * (i & 1) & 0xffff);
  }
  for (int lane = 0; lane < warp_lanes; ++lane) {
    const Product& mine = *static_cast<Product*>(brought[lane]);
    for (int i = 0; i < 4; ++i) {  // c0 .. c3
      const int row = lane / 4 + (i < 2 ? 0 : 8), column = 2 * (lane % 4) + (i & 1);
      for (int half = 0; half < 16; half += 8) {
        double products[8];
        for (int k = 0; k < 8; ++k) products[k] = a[row][half + k] * b[column][half + k];
        mine.sum[i] = add(products, mine.sum[i]);
      }
    }
  }
}

}  // namespace

void load_matrices(unsigned (&matrices)[4], const void* row, bool transposed, Site site) {
  shadow_read(row, 16);
  Load mine{matrices, static_cast<const unsigned char*>(row)};
  if (transposed) warp_rendezvous("ldmatrix.trans", ~0u, &mine, combine_load<true>, site);
  else warp_rendezvous("ldmatrix", ~0u, &mine, combine_load<false>, site);
}

void multiply_matrices(Half half, float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, Site site) {
  Product mine{sum, a, {b0, b1}};
  warp_rendezvous("mma.sync", ~0u, &mine, half == Half::f16 ? combine_product<Half::f16> : combine_product<Half::bf16>,
                  site);
}

}  // namespace emulator
