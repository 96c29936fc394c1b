// The PTX front is TypeScript: `node dist/ptx-decode.js` makes the decoded program. What it made is kept in a folder for
// temporary files under a hash of the PTX and the decoder, so that node runs once for each text.
#include "image.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

extern char** environ;

namespace dsvc::driver {

using emu::format;

namespace {

bool readFile(const std::string& path, std::vector<uint8_t>& out) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return false;
  out.assign(std::istreambuf_iterator<char>(in), {});
  return true;
}
bool writeFile(const std::string& path, const void* data, size_t bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  return static_cast<bool>(out.flush());
}

// FNV-1a in 64 bits, from a start of its own: two of them name a cache entry.
uint64_t hashOf(uint64_t h, const void* data, size_t bytes) {
  auto* p = static_cast<const uint8_t*>(data);
  for (size_t k = 0; k < bytes; ++k) h = (h ^ p[k]) * 0x100000001b3ull;
  return h;
}

// dist/ptx-decode.js of the package whose build/native this library lies in.
std::string decoderPath() {
  if (const char* given = std::getenv("DSVC_PTX_DECODER"); given && *given) return given;
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&decoderPath), &info) || !info.dli_fname) return "";
  char resolved[PATH_MAX];
  std::string path = realpath(info.dli_fname, resolved) ? resolved : info.dli_fname;
  for (int k = 0; k < 3; ++k) {
    size_t slash = path.rfind('/');
    if (slash == std::string::npos) return "";
    path.resize(slash);
  }
  return path + "/dist/ptx-decode.js";
}

// A folder that only this user may write to; empty when there is none.
std::string cacheFolder() {
  const char* given = std::getenv("DSVC_EMULATOR_CACHE");
  const char* temporary = std::getenv("TMPDIR");
  std::string folder = given && *given ? given
                                       : format("%s/dsvc-emulator-%u", temporary && *temporary ? temporary : "/tmp", static_cast<unsigned>(getuid()));
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return "";
  struct stat s{};
  if (lstat(folder.c_str(), &s) != 0 || !S_ISDIR(s.st_mode) || s.st_uid != getuid() || (s.st_mode & 022)) return "";
  return folder;
}

// Runs node; returns its exit status, or -1 when it could not be started. What it prints goes to `log`.
int runNode(const std::vector<std::string>& arguments, const std::string& logFile, std::string& log) {
  std::vector<char*> argv;
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, logFile.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t child = 0;
  int error = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return -1;
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  std::vector<uint8_t> text;
  readFile(logFile, text);
  unlink(logFile.c_str());
  log.assign(text.begin(), text.end());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

CUresult decodePtx(const std::string& ptx, const std::string& name, std::vector<uint8_t>& program, std::string& log) {
  std::string decoder = decoderPath();
  std::vector<uint8_t> script;
  if (decoder.empty() || !readFile(decoder, script)) {
    log = format("PTX needs the decoder, and %s is not there: run `npm run build`, or name the file in DSVC_PTX_DECODER", decoder.c_str());
    return CUDA_ERROR_JIT_COMPILER_NOT_FOUND;
  }
  std::string folder = cacheFolder();
  if (folder.empty()) {
    log = "no folder for temporary files that only this user may write to: set TMPDIR or DSVC_EMULATOR_CACHE";
    return CUDA_ERROR_OPERATING_SYSTEM;
  }
  // The script names its parts by their content, so its own bytes stand for the whole decoder.
  uint64_t a = hashOf(hashOf(0xcbf29ce484222325ull, script.data(), script.size()), ptx.data(), ptx.size());
  uint64_t b = hashOf(hashOf(a ^ 0x9e3779b97f4a7c15ull, ptx.data(), ptx.size()), script.data(), script.size());
  std::string entry = format("%s/%016llx%016llx", folder.c_str(), static_cast<unsigned long long>(a), static_cast<unsigned long long>(b));
  if (readFile(entry + ".dptx", program) && !program.empty()) return CUDA_SUCCESS;

  static std::atomic<unsigned> attempts{0};
  std::string mine = format("%s.%d.%u", entry.c_str(), static_cast<int>(getpid()), ++attempts);
  if (!writeFile(mine + ".ptx", ptx.data(), ptx.size())) {
    log = "cannot write " + mine + ".ptx";
    return CUDA_ERROR_OPERATING_SYSTEM;
  }
  const char* node = std::getenv("DSVC_NODE");
  int status = runNode({node && *node ? node : "node", decoder, mine + ".ptx", name, mine + ".dptx"}, mine + ".log", log);
  unlink((mine + ".ptx").c_str());
  // A shell's 127: posix_spawnp may only notice in the child.
  if (status == -1 || (status == 127 && log.empty())) {
    log = "PTX is decoded by node, which is not on PATH: install Node 20.19 or newer, or name it in DSVC_NODE";
    return CUDA_ERROR_JIT_COMPILER_NOT_FOUND;
  }
  bool made = status == 0 && readFile(mine + ".dptx", program) && !program.empty();
  if (made && rename((mine + ".dptx").c_str(), (entry + ".dptx").c_str()) == 0) return CUDA_SUCCESS;
  unlink((mine + ".dptx").c_str());
  if (made) return CUDA_SUCCESS;
  if (status == 1) return log.find("ptx/version") != std::string::npos ? CUDA_ERROR_UNSUPPORTED_PTX_VERSION : CUDA_ERROR_INVALID_PTX;
  log = format("%s ended with %d: %s", decoder.c_str(), status, log.c_str());
  return CUDA_ERROR_OPERATING_SYSTEM;
}

}  // namespace

CUresult readImage(const void* image, size_t bytes, const std::string& name, Image& out, std::string& log) {
  auto* b = static_cast<const uint8_t*>(image);
  auto starts = [&](const char* magic, size_t n) {
    if (bytes && bytes < n) return false;
    for (size_t k = 0; k < n; ++k)  // byte by byte: the image may be shorter, and PTX then ends with a zero
      if (b[k] != static_cast<uint8_t>(magic[k])) return false;
    return true;
  };
  const bool isCubin = starts("\x7f" "ELF", 4), isFatbin = starts("\x50\xed\x55\xba", 4) || starts("\xb1\x43\x62\x46", 4);
  if (isCubin || isFatbin) {
    log = format("%s is a %s: machine code cannot be emulated; give the PTX (nvcc -ptx -arch=sm_90a)", name.c_str(), isCubin ? "cubin" : "fatbin");
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  auto source = std::make_shared<Source>();
  source->name = name;
  if (starts("DPTX", 4)) {
    size_t length = bytes ? bytes : emu::Program::lengthOf(b);
    out.program.assign(b, b + length);
    out.source = source;
    return CUDA_SUCCESS;
  }
  size_t length = bytes ? strnlen(static_cast<const char*>(image), bytes) : std::strlen(static_cast<const char*>(image));
  source->text.assign(static_cast<const char*>(image), length);
  if (source->text.find(".version") == std::string::npos) {
    log = name + " is neither PTX nor a decoded program";
    return CUDA_ERROR_INVALID_IMAGE;
  }
  out.source = source;
  return decodePtx(source->text, name, out.program, log);
}

CUresult readImageFile(const char* file, Image& out, std::string& log) {
  std::vector<uint8_t> content;
  if (!readFile(file, content) || content.empty()) {
    log = format("%s cannot be read", file);
    return CUDA_ERROR_FILE_NOT_FOUND;
  }
  return readImage(content.data(), content.size(), file, out, log);
}

}  // namespace dsvc::driver
