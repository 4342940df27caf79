#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <malloc.h>

#include <algorithm>

#include "core/os.h"

namespace nd::os {
namespace {

std::wstring to_utf16(const std::string& text) {
  const int length = static_cast<int>(text.size());
  const int units = MultiByteToWideChar(CP_UTF8, 0, text.data(), length, nullptr, 0);
  std::wstring result(static_cast<size_t>(units), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, text.data(), length, result.data(), units);
  return result;
}

/// The absolute path in the form that is not limited to 260 characters: \\?\C:\… or \\?\UNC\server\…
std::wstring extended_path(const std::string& path) {
  const std::wstring given = to_utf16(path);
  if (given.rfind(L"\\\\?\\", 0) == 0 || given.rfind(L"\\\\.\\", 0) == 0) return given;
  const DWORD length = GetFullPathNameW(given.c_str(), 0, nullptr, nullptr);
  std::wstring full(length, L'\0');
  const DWORD written = length ? GetFullPathNameW(given.c_str(), length, full.data(), nullptr) : 0;
  if (written == 0 || written >= length) return given;
  full.resize(written);
  return full.rfind(L"\\\\", 0) == 0 ? L"\\\\?\\UNC" + full.substr(1) : L"\\\\?\\" + full;
}

HANDLE to_handle(intptr_t file) {
  return reinterpret_cast<HANDLE>(file);
}

uint64_t join(DWORD high, DWORD low) {
  return uint64_t{high} << 32 | low;
}

}  // namespace

void* allocate_pages(size_t bytes) {
  return VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

void release_pages(void* pages, size_t) {
  VirtualFree(pages, 0, MEM_RELEASE);
}

// Large pages need a privilege that users do not have by default.
void prefer_huge_pages(void*, size_t) {}

void* allocate_aligned(size_t bytes) {
  return _aligned_malloc(bytes, 64);
}

void free_aligned(void* memory) {
  _aligned_free(memory);
}

File::File(const std::string& path)
    : handle_(reinterpret_cast<intptr_t>(
          CreateFileW(extended_path(path).c_str(), GENERIC_READ,
                      FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr, OPEN_EXISTING,
                      // Folders open, too, so that state() can tell them from a file that is not there.
                      FILE_ATTRIBUTE_NORMAL | FILE_FLAG_BACKUP_SEMANTICS, nullptr))) {}

File::~File() {
  if (is_open()) CloseHandle(to_handle(handle_));
}

bool File::state(FileState& result) const {
  BY_HANDLE_FILE_INFORMATION info;
  if (!GetFileInformationByHandle(to_handle(handle_), &info)) return false;
  result.regular = GetFileType(to_handle(handle_)) == FILE_TYPE_DISK &&
                   (info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) == 0;
  result.size = join(info.nFileSizeHigh, info.nFileSizeLow);
  // FILETIME counts 100 ns since 1601; all others count from 1970.
  constexpr int64_t kEpoch = 116444736000000000;
  const auto written =
      static_cast<int64_t>(join(info.ftLastWriteTime.dwHighDateTime, info.ftLastWriteTime.dwLowDateTime));
  result.modified = (written - kEpoch) * 100;
  // Not NTFS's ChangeTime: virus scanners and backups change it without touching the content.
  result.changed = 0;
  result.links = info.nNumberOfLinks;
  return true;
}

int64_t File::read(uint64_t offset, size_t bytes, uint8_t* out) const {
  OVERLAPPED at = {};
  at.Offset = static_cast<DWORD>(offset);
  at.OffsetHigh = static_cast<DWORD>(offset >> 32);
  DWORD count = 0;
  const auto length = static_cast<DWORD>(std::min(bytes, size_t{1} << 30));
  if (ReadFile(to_handle(handle_), out, length, &count, &at)) return count;
  return GetLastError() == ERROR_HANDLE_EOF ? 0 : -1;
}

std::string last_error() {
  const DWORD code = GetLastError();
  wchar_t* text = nullptr;
  DWORD length = FormatMessageW(
      FORMAT_MESSAGE_ALLOCATE_BUFFER | FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr,
      code, MAKELANGID(LANG_ENGLISH, SUBLANG_ENGLISH_US), reinterpret_cast<wchar_t*>(&text), 0, nullptr);
  while (length > 0 && (text[length - 1] <= L' ' || text[length - 1] == L'.')) --length;
  std::string result;
  if (length > 0) {
    const int size =
        WideCharToMultiByte(CP_UTF8, 0, text, static_cast<int>(length), nullptr, 0, nullptr, nullptr);
    result.resize(static_cast<size_t>(size));
    WideCharToMultiByte(CP_UTF8, 0, text, static_cast<int>(length), result.data(), size, nullptr, nullptr);
  }
  LocalFree(text);
  return result.empty() ? "error " + std::to_string(code) : result;
}

void stay_loaded() {
  HMODULE module = nullptr;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                     reinterpret_cast<LPCWSTR>(&stay_loaded), &module);
}

}  // namespace nd::os
#endif
