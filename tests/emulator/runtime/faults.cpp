// A fault of the processor inside a kernel becomes a report, and the host goes on.
#include "scheduler.h"

#include <csignal>
#include <cstdio>
#include <dlfcn.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

namespace emulator {
namespace {

constexpr int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
constexpr int signal_count = sizeof signals / sizeof signals[0];
struct sigaction replaced[signal_count];
stack_t replaced_stack;
long launching_thread = 0;
alignas(64) unsigned char signal_stack[128 * 1024];

long thread_id() { return syscall(SYS_gettid); }

uint64_t program_counter(const ucontext_t& context) {
#if defined(__x86_64__)
  return static_cast<uint64_t>(context.uc_mcontext.gregs[REG_RIP]);
#else
  return context.uc_mcontext.pc;
#endif
}

bool was_write(const ucontext_t& context) {
#if defined(__x86_64__)
  return (context.uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
  (void)context;
  return false;
#endif
}

void resume_host(ucontext_t& context) {
  before_resuming_host();
  auto target = reinterpret_cast<uint64_t>(&emulator_resume);
  auto stack = reinterpret_cast<uint64_t>(host_stack_pointer());
#if defined(__x86_64__)
  context.uc_mcontext.gregs[REG_RDI] = static_cast<greg_t>(stack);
  context.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(target);
#else
  context.uc_mcontext.regs[0] = stack;
  context.uc_mcontext.pc = target;
#endif
}

void describe(int signal, const siginfo_t& info, const ucontext_t& context) {
  Report& report = run.report;
  report.failure = Failure::memory_fault;
  report.block[0] = view.block_index.x;
  report.block[1] = view.block_index.y;
  report.block[2] = view.block_index.z;
  report.thread[0] = view.thread_index.x;
  report.thread[1] = view.thread_index.y;
  report.thread[2] = view.thread_index.z;
  report.has_thread = 1;
  report.address = reinterpret_cast<uint64_t>(info.si_addr);
  report.program_counter = program_counter(context);
  report.writes = was_write(context);
  report.file = run.current->site.file;
  report.line = run.current->site.line;
  if (signal == SIGFPE) {
    report.failure = Failure::check;
    std::snprintf(report.text, sizeof report.text, "integer division by zero");
  } else if (signal == SIGILL) {
    report.failure = Failure::check;
    std::snprintf(report.text, sizeof report.text, "illegal instruction");
  }
  auto fault = reinterpret_cast<unsigned char*>(info.si_addr);
  if (signal == SIGSEGV && fault < run.current->stack && fault >= run.current->stack - 65536) {
    report.failure = Failure::check;
    std::snprintf(report.text, sizeof report.text, "the stack of the thread overflowed");
  }
}

void handle(int signal, siginfo_t* info, void* raw_context) {
  auto& context = *static_cast<ucontext_t*>(raw_context);
  if (run.current == nullptr || thread_id() != launching_thread) {
    for (int i = 0; i < signal_count; ++i)  // not of a kernel: comes again, to whoever had it before
      if (signals[i] == signal) sigaction(signal, &replaced[i], nullptr);
    return;
  }
  describe(signal, *info, context);
  resume_host(context);
}

}  // namespace

FaultHandlers::FaultHandlers() {
  launching_thread = thread_id();
  stack_t stack{};
  stack.ss_sp = signal_stack;
  stack.ss_size = sizeof signal_stack;
  sigaltstack(&stack, &replaced_stack);
  struct sigaction action{};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < signal_count; ++i) sigaction(signals[i], &action, &replaced[i]);
}

FaultHandlers::~FaultHandlers() {
  for (int i = 0; i < signal_count; ++i) sigaction(signals[i], &replaced[i], nullptr);
  sigaltstack(&replaced_stack, nullptr);
  Dl_info found{};
  Report& report = run.report;
  if (report.program_counter != 0 && dladdr(reinterpret_cast<void*>(report.program_counter), &found) != 0) {
    report.module_offset = report.program_counter - reinterpret_cast<uint64_t>(found.dli_fbase);
    std::snprintf(report.module, sizeof report.module, "%s", found.dli_fname);
  }
}

}  // namespace emulator
