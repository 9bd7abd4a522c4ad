// Barriers of a block, and meetings of a warp's lanes.
#include "scheduler.h"

#include <cstring>
#include <vector>

namespace emulator {
namespace {

struct Barrier {
  ThreadSet waiting;
  int arrived = 0;
  Site site{"", 0};
  unsigned generation = 0;
  char edges[2];  // tags for the race detector; two, since a fast thread may come to the next barrier early
} block_barrier;

struct Meeting {
  const char* what;
  unsigned mask, arrived;
  void* brought[warp_lanes];
  Combine combine;
  Site site;
};

struct Warp {
  unsigned alive = 0;
  std::vector<Meeting> meetings;  // of disjoint masks
  char edge;
} warps[max_threads / warp_lanes];

bool same_site(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

std::string place(Site site) {
  const char* slash = std::strrchr(site.file, '/');
  return std::string(slash == nullptr ? site.file : slash + 1) + ":" + std::to_string(site.line);
}

std::string lanes(unsigned mask) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

void finish_meeting(Warp& warp, size_t number) {
  Meeting meeting = warp.meetings[number];
  warp.meetings.erase(warp.meetings.begin() + static_cast<std::ptrdiff_t>(number));
  if (meeting.combine != nullptr) meeting.combine(meeting.brought, meeting.mask, warp.alive);
  unsigned base = static_cast<unsigned>(&warp - warps) * warp_lanes;
  for (unsigned lane = 0; lane < warp_lanes; ++lane)
    if (meeting.arrived >> lane & 1) wake(run.threads[base + lane]);
}

bool complete(const Warp& warp, const Meeting& meeting) { return meeting.arrived == (meeting.mask & warp.alive); }

void block_begins() {
  block_barrier.waiting.clear();
  block_barrier.arrived = 0;
  int warp_count = (run.thread_count + warp_lanes - 1) / warp_lanes;
  for (int i = 0; i < warp_count; ++i) {
    int there = run.thread_count - i * warp_lanes;
    warps[i].alive = there >= warp_lanes ? ~0u : (1u << there) - 1;
    warps[i].meetings.clear();
  }
}

void thread_exits(Thread& thread) {
  if (block_barrier.arrived > 0)
    fail(block_barrier.site, "the thread exits, but %s wait in __syncthreads at %s",
         positions(block_barrier.waiting).c_str(), place(block_barrier.site).c_str());
  Warp& warp = warps[thread.warp];
  warp.alive &= ~(1u << thread.lane);
  for (size_t i = 0; i < warp.meetings.size(); ++i)  // exited lanes are not waited for
    if (complete(warp, warp.meetings[i])) finish_meeting(warp, i--);
}

Module module(block_begins, thread_exits);

Meeting& join(Warp& warp, const char* what, unsigned mask, Combine combine, Site site) {
  Thread& self = *run.current;
  if ((mask >> self.lane & 1) == 0)
    fail(site, "%s: lane %u is not in its own mask %s", what, self.lane, lanes(mask).c_str());
  for (Meeting& open : warp.meetings) {
    if ((open.mask & mask) == 0) continue;
    if (open.mask != mask || std::strcmp(open.what, what) != 0 || !same_site(open.site, site))
      fail(site, "lane %u is in %s with mask %s, but lanes %s wait in %s with mask %s at %s", self.lane, what,
           lanes(mask).c_str(), lanes(open.arrived).c_str(), open.what, lanes(open.mask).c_str(),
           place(open.site).c_str());
    return open;
  }
  warp.meetings.push_back({what, mask, 0, {}, combine, site});
  return warp.meetings.back();
}

}  // namespace

void barrier(Site site) {
  Barrier& here = block_barrier;
  Thread& self = *run.current;
  if (run.live < run.thread_count)
    fail(site, "__syncthreads after %s exited", positions(run.exited).c_str());
  if (here.arrived > 0 && !same_site(here.site, site))
    fail(site, "divergent __syncthreads: %s wait at %s", positions(here.waiting).c_str(), place(here.site).c_str());
  here.site = site;
  char* edge = &here.edges[here.generation & 1];
  happens_before(edge);
  ++here.arrived;
  if (here.arrived == run.thread_count) {
    wake_all(here.waiting);
    here.waiting.clear();
    here.arrived = 0;
    ++here.generation;
    requeue();
  } else {
    here.waiting.add(self.linear);
    block_on("__syncthreads", site);
  }
  happens_after(edge);
}

void warp_rendezvous(const char* what, unsigned mask, void* brought, Combine combine, Site site) {
  Thread& self = *run.current;
  Warp& warp = warps[self.warp];
  self.site = site;
  happens_before(&warp.edge);
  Meeting& meeting = join(warp, what, mask, combine, site);
  meeting.brought[self.lane] = brought;
  meeting.arrived |= 1u << self.lane;
  if (complete(warp, meeting)) {
    finish_meeting(warp, static_cast<size_t>(&meeting - warp.meetings.data()));
    requeue();
  } else {
    block_on(what, site);
  }
  happens_after(&warp.edge);
}

namespace {

struct Shuffled {
  unsigned long long bits, result;
  int source;
  bool gone;
};

// The lane to read from, as shfl.sync of the PTX ISA has it.
int source_lane(ShuffleMode mode, int lane, int operand, int width) {
  int first = lane & ~(width - 1), last = first + width - 1;
  int source = lane;
  switch (mode) {
    case ShuffleMode::index: return first | (operand & (width - 1));
    case ShuffleMode::up: source = lane - operand; return source >= first ? source : lane;
    case ShuffleMode::down: source = lane + operand; return source <= last ? source : lane;
    case ShuffleMode::butterfly: source = lane ^ operand; return source <= last ? source : lane;
  }
  return lane;
}

void combine_shuffle(void* const* brought, unsigned mask, unsigned alive) {
  for (int lane = 0; lane < warp_lanes; ++lane) {
    if ((mask & alive) >> lane & 1) {
      Shuffled& mine = *static_cast<Shuffled*>(brought[lane]);
      mine.gone = ((mask & alive) >> mine.source & 1) == 0;
      if (!mine.gone) mine.result = static_cast<Shuffled*>(brought[mine.source])->bits;
    }
  }
}

struct Vote {
  bool predicate;
  unsigned result;
};

void combine_vote(void* const* brought, unsigned mask, unsigned alive) {
  unsigned result = 0;
  for (int lane = 0; lane < warp_lanes; ++lane)
    if ((mask & alive) >> lane & 1 && static_cast<Vote*>(brought[lane])->predicate) result |= 1u << lane;
  for (int lane = 0; lane < warp_lanes; ++lane)
    if ((mask & alive) >> lane & 1) static_cast<Vote*>(brought[lane])->result = result;
}

}  // namespace

unsigned long long shuffle(ShuffleMode mode, unsigned mask, unsigned long long bits, int operand, int width, Site site) {
  static const char* const names[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync"};
  const char* name = names[static_cast<int>(mode)];
  if (width < 1 || width > warp_lanes || (width & (width - 1)) != 0)
    fail(site, "%s: the width is a power of two up to 32, not %d", name, width);
  int lane = static_cast<int>(run.current->lane);
  Shuffled mine{bits, 0, source_lane(mode, lane, operand, width), false};
  warp_rendezvous(name, mask, &mine, combine_shuffle, site);
  if (mine.gone) fail(site, "%s: lane %d reads lane %d, which is not in it", name, lane, mine.source);
  return mine.result;
}

unsigned ballot(unsigned mask, bool predicate, Site site) {
  Vote mine{predicate, 0};
  warp_rendezvous("a vote", mask, &mine, combine_vote, site);
  return mine.result;
}

}  // namespace emulator
