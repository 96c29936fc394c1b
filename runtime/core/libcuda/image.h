// Module images: PTX text, which a script of ours decodes, or programs that were decoded before.
#pragma once
#include "state.h"

namespace dsvc::driver {

struct Image {
  std::vector<uint8_t> program;
  std::shared_ptr<const Source> source;
};

// Reads an image; what is wrong with it goes to `log`, as text for people. `bytes`: 0 when the caller gave none, as the
// API does: PTX then ends at its first zero byte.
CUresult readImage(const void* image, size_t bytes, const std::string& name, Image& out, std::string& log);
CUresult readImageFile(const char* file, Image& out, std::string& log);

}  // namespace dsvc::driver
