// The OpenBLAS of the PyPI package scipy-openblas32, loaded at the first use from the folder aurora-blas beside
// the file that holds this code. Its names carry the prefix scipy_ and stay local, so they meet no other BLAS of
// the process; where oneMKL is used, nothing is loaded.
#include <dlfcn.h>
#include <link.h>

#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "openblas.hpp"

namespace aurora::blas {
namespace {

constexpr const char* kFile = "libscipy_openblas.so";

[[noreturn]] void cannot_load(const std::string& reason) {
  throw std::runtime_error("[aurora::blas] OpenBLAS cannot be loaded: " + reason);
}

/// The shared library that holds this code, or the program where the code was linked into it.
std::filesystem::path own_file() {
  static const char here = 0;
  Dl_info info{};
  link_map* map = nullptr;
  if (dladdr1(&here, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 || map == nullptr)
    cannot_load("dladdr1 does not know where this code lies");
  return std::filesystem::canonical(*map->l_name == '\0' ? "/proc/self/exe" : map->l_name);
}

struct Shared {
  std::string path;
  void* handle;

  template <class Function>
  void find(const std::string& name, Function*& function) const {
    function = reinterpret_cast<Function*>(dlsym(handle, ("scipy_" + name).c_str()));
    if (function == nullptr) cannot_load(path + " has no scipy_" + name);
  }

  template <class T>
  void find(char type, Routines<T>& routines) const {
    const auto name = [type](const char* routine) { return type + std::string(routine) + "_"; };
    find(name("gemm"), routines.gemm);
    find(name("syrk"), routines.syrk);
    find(name("trsm"), routines.trsm);
    find(name("trmm"), routines.trmm);
    find(name("trsv"), routines.trsv);
    find(name("potrf"), routines.potrf);
    find(name("lauum"), routines.lauum);
    find(name("syevd"), routines.syevd);
    find(name("gesdd"), routines.gesdd);
  }
};

Shared open_shared() {
  std::vector<std::filesystem::path> places{own_file().parent_path() / "aurora-blas" / kFile};
#ifdef AURORA_BLAS_FOLDERS  // of a static libaurora, whose code lies in a program that may be anywhere
  std::istringstream folders(AURORA_BLAS_FOLDERS);
  for (std::string folder; std::getline(folders, folder, ':');)
    places.push_back(std::filesystem::path(folder) / kFile);
#endif
  std::string reasons;
  for (const auto& path : places) {
    if (void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); handle != nullptr) return {path, handle};
    const char* reason = dlerror();  // begins with the path
    reasons += (reasons.empty() ? "" : "; ") + std::string(reason != nullptr ? reason : path.c_str());
  }
  cannot_load(reasons);
}

}  // namespace

OpenBlas open_openblas() {
  const Shared shared = open_shared();
  OpenBlas openblas{};
  shared.find("openblas_get_config", openblas.config);
  shared.find("openblas_get_corename", openblas.core_name);
  shared.find("openblas_set_num_threads", openblas.set_num_threads);
  shared.find('s', openblas.singles);
  shared.find('d', openblas.doubles);
  return openblas;
}

}  // namespace aurora::blas
