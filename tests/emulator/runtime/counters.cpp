// What the accesses of a warp cost: requests, sectors of global memory, wavefronts of shared memory.
#include "scheduler.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <unordered_map>
#include <vector>

namespace emulator {

// Totals of one place in the source; read by the Python side.
struct SiteCount {
  const char* file;
  int32_t line;
  uint32_t access;
  uint64_t requests, lanes, bytes;
  uint64_t sectors, ideal_sectors;        // global memory
  uint64_t wavefronts, ideal_wavefronts;  // shared memory
};

namespace {

struct Request {
  unsigned lanes = 0;
  uint64_t address[warp_lanes];
  unsigned bytes[warp_lanes];
};

std::vector<SiteCount> sites;
std::map<std::tuple<std::string, int, int>, size_t> site_numbers;
struct PlaceHash {
  size_t operator()(const std::tuple<const char*, int, int>& key) const {
    return reinterpret_cast<size_t>(std::get<0>(key)) * 31 + static_cast<size_t>(std::get<1>(key) * 4 + std::get<2>(key));
  }
};
std::unordered_map<std::tuple<const char*, int, int>, size_t, PlaceHash> quick_numbers;  // by the name's address

std::vector<uint32_t> occurrences[max_threads];                           // of each site, for each thread
std::unordered_map<uint64_t, Request> requests[max_threads / warp_lanes];  // by site and occurrence

size_t number_of(Access access, Site site) {
  auto quick = quick_numbers.try_emplace({site.file, site.line, static_cast<int>(access)}, 0);
  if (quick.second) {
    auto found = site_numbers.try_emplace({site.file, site.line, static_cast<int>(access)}, sites.size());
    if (found.second) sites.push_back({site.file, site.line, static_cast<uint32_t>(access), 0, 0, 0, 0, 0, 0, 0});
    quick.first->second = found.first->second;
  }
  return quick.first->second;
}

struct Distinct {
  std::vector<uint64_t> values;
  void add_range(uint64_t first_byte, unsigned bytes, unsigned unit) {
    for (uint64_t at = first_byte / unit; at <= (first_byte + bytes - 1) / unit; ++at) values.push_back(at);
  }
  void reduce() {
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
  }
};

uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

void add_global(SiteCount& site, const Request& request) {
  Distinct sectors, bytes;
  for (int lane = 0; lane < warp_lanes; ++lane) {
    if ((request.lanes >> lane & 1) == 0) continue;
    sectors.add_range(request.address[lane], request.bytes[lane], 32);
    bytes.add_range(request.address[lane], request.bytes[lane], 1);
  }
  sectors.reduce();
  bytes.reduce();
  site.sectors += sectors.values.size();
  site.ideal_sectors += ceil_div(bytes.values.size(), 32);
}

// Lanes that go together: all with up to 4 bytes each, half a warp with 8, a quarter with 16.
void add_shared(SiteCount& site, const Request& request, unsigned widest) {
  int together = widest <= 4 ? 32 : widest <= 8 ? 16 : 8;
  for (int first = 0; first < warp_lanes; first += together) {
    Distinct words;
    for (int lane = first; lane < first + together; ++lane)
      if (request.lanes >> lane & 1) words.add_range(request.address[lane], request.bytes[lane], 4);
    words.reduce();
    if (words.values.empty()) continue;
    unsigned load[32] = {};
    for (uint64_t word : words.values) ++load[word % 32];
    site.wavefronts += *std::max_element(load, load + 32);
    site.ideal_wavefronts += ceil_div(words.values.size(), 32);
  }
}

void finish(size_t number, const Request& request) {
  SiteCount& site = sites[number];
  unsigned widest = 0;
  ++site.requests;
  for (int lane = 0; lane < warp_lanes; ++lane) {
    if ((request.lanes >> lane & 1) == 0) continue;
    ++site.lanes;
    site.bytes += request.bytes[lane];
    widest = std::max(widest, request.bytes[lane]);
  }
  bool global = site.access <= static_cast<uint32_t>(Access::global_store);
  if (global) add_global(site, request);
  else add_shared(site, request, widest);
}

unsigned lanes_of_warp(unsigned warp) {
  unsigned there = static_cast<unsigned>(run.thread_count) - warp * warp_lanes;
  return there >= warp_lanes ? ~0u : (1u << there) - 1;
}

void finish_block() {
  for (auto& of_warp : requests) {
    for (const auto& [key, request] : of_warp) finish(key >> 32, request);
    of_warp.clear();
  }
  for (auto& of_thread : occurrences) of_thread.clear();
}

}  // namespace

void count(Access access, const void* address, unsigned bytes, Site site) {
  size_t number = number_of(access, site);
  Thread& self = *run.current;
  std::vector<uint32_t>& mine = occurrences[self.linear];
  if (mine.size() <= number) mine.resize(number + 1);
  uint64_t key = uint64_t{number} << 32 | mine[number]++;
  Request& request = requests[self.warp][key];
  request.lanes |= 1u << self.lane;
  request.address[self.lane] = reinterpret_cast<uint64_t>(address);
  request.bytes[self.lane] = bytes;
  if (request.lanes == lanes_of_warp(self.warp)) {  // complete: keeps the table short
    finish(number, request);
    requests[self.warp].erase(key);
  }
}

namespace {
Module module(finish_block, nullptr);
}

extern "C" void emulator_clear_counts() {
  finish_block();
  sites.clear();
  site_numbers.clear();
  quick_numbers.clear();
}

extern "C" const SiteCount* emulator_counts(int* how_many) {
  finish_block();
  *how_many = static_cast<int>(sites.size());
  return sites.data();
}

}  // namespace emulator
