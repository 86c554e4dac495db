// Files to a snapshot.
#include "net/auth/credentials.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "net/auth/key_file.h"
#include "net/auth/limits.h"

namespace pulse {
namespace {

constexpr mode_t kOthersRead = S_IROTH;
constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;

// A file's text, wiped when it goes.
struct FileText {
    std::string text;
    mode_t mode = 0;
    FileText() = default;
    ~FileText() { OPENSSL_cleanse(text.data(), text.size()); }
    FileText(FileText&&) = default;
    FileText& operator=(FileText&&) = default;
};

struct Descriptor {
    int number;
    ~Descriptor() {
        if (number >= 0) ::close(number);
    }
};

Result<FileText> read_file(const std::string& path, size_t bytes_max) {
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    struct stat status{};
    if (file.number < 0 || ::fstat(file.number, &status) != 0) {
        return Error{std::string("cannot be read: ") + std::strerror(errno) +
                     "; name a file that this user may read"};
    }
    if (!S_ISREG(status.st_mode))
        return Error{"is not a regular file, and would not be there at a reload; name one"};
    FileText read;
    read.mode = status.st_mode;
    const auto room = static_cast<size_t>(status.st_size) + 1;
    if (room > bytes_max) {
        return Error{"has over " + std::to_string(bytes_max) +
                     " bytes; it is another file, or must be divided"};
    }
    // In one piece, so that no copy of it is left behind.
    read.text.resize(bytes_max < 65'536 ? bytes_max : std::max<size_t>(room, 65'536));
    size_t size = 0;
    for (;;) {
        const ssize_t got = ::read(file.number, read.text.data() + size, read.text.size() - size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            return Error{std::string("cannot be read: ") + std::strerror(errno) +
                         "; look after the disk"};
        }
        if (got == 0) break;
        size += static_cast<size_t>(got);
        if (size == read.text.size())
            return Error{"grew while it was read; replace it by a rename"};
    }
    read.text.resize(size);
    return read;
}

void warn_of_mode(const std::string& flag, mode_t mode, bool secret,
                  std::vector<std::string>& warnings) {
    if (secret && (mode & kOthersRead) != 0) {
        warnings.push_back(flag +
                           ": every user of this machine may read it, and it holds secrets; "
                           "chmod o-r it");
    }
    if ((mode & kOthersWrite) != 0) {
        warnings.push_back(flag +
                           ": other users of this machine may write it, and let in whom "
                           "they like; chmod go-w it");
    }
}

Result<void> load_tokens(const AuthFiles& files, Credentials& credentials,
                         LoadedCredentials& loaded) {
    const std::string flag = "--auth-token-file " + files.tokens;
    const Result<FileText> file = read_file(files.tokens, kTokenFileBytesMax);
    if (!file) return Error{flag + ": " + file.error()};
    SipKey key;
    if (RAND_bytes(reinterpret_cast<unsigned char*>(key.data()), sizeof key) != 1)
        return Error{flag + ": OpenSSL has no randomness; start later, or mount /dev/urandom"};
    Result<StaticTokens> tokens = StaticTokens::parse(file->text, key);
    if (!tokens) return Error{flag + ":" + tokens.error()};
    if (tokens->size() == 0)
        loaded.warnings.push_back(flag + ": it has no token, and lets in no peer");
    warn_of_mode(flag, file->mode, tokens->holds_secrets(), loaded.warnings);
    credentials.tokens = std::move(*tokens);
    loaded.notes.push_back(flag + ": " + std::to_string(credentials.tokens.size()) + " tokens");
    return {};
}

Result<void> load_keys(const AuthFiles& files, Credentials& credentials,
                       LoadedCredentials& loaded) {
    const std::string flag = "--auth-jwt-key " + files.keys;
    const Result<FileText> file = read_file(files.keys, kKeyFileBytesMax);
    if (!file) return Error{flag + ": " + file.error()};
    Result<KeyFile> keys = parse_key_file(file->text);
    if (!keys) return Error{flag + ": " + keys.error()};
    warn_of_mode(flag, file->mode, keys->secret, loaded.warnings);
    if (keys->passed_over > 0) {
        loaded.warnings.push_back(
            flag + ": " + std::to_string(keys->passed_over) +
            " of its keys are for other uses or algorithms, and are not used");
    }
    std::string note = flag + ":";
    for (const SigningKey& key : keys->keys) {
        note.append(" ").append(key.algorithm_name());
        if (!key.key_id().empty()) note.append("(").append(key.key_id()).append(")");
    }
    loaded.notes.push_back(std::move(note));
    credentials.keys = std::move(keys->keys);
    return {};
}

}  // namespace

Result<LoadedCredentials> load_credentials(const AuthFiles& files) {
    LoadedCredentials loaded;
    if (!files.audiences.empty() && files.keys.empty()) {
        loaded.warnings.push_back(
            "--auth-audience is of JSON Web Tokens, and there is no key for them; give "
            "--auth-jwt-key, or leave it out");
    }
    if (!files.on()) return loaded;
    auto credentials = std::make_shared<Credentials>();
    credentials->audiences = files.audiences;
    if (!files.tokens.empty()) {
        if (Result<void> done = load_tokens(files, *credentials, loaded); !done)
            return Error{done.error()};
    }
    if (!files.keys.empty()) {
        if (Result<void> done = load_keys(files, *credentials, loaded); !done)
            return Error{done.error()};
    }
    loaded.credentials = std::move(credentials);
    return loaded;
}

}  // namespace pulse
