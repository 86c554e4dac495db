// cpp-httplib reads heads and queries and writes responses, over a stream that is a string: its own
// sockets have a thread each, so that a few idle clients would keep all others out.
#include "net/control/control.h"

#include <httplib.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "net/control/http_front.h"
#include "net/control/limits.h"
#include "net/control/routes.h"
#include "net/io/address.h"

namespace pulse {
namespace {

// A request that is whole, and the response to it.
class TextStream final : public httplib::Stream {
  public:
    explicit TextStream(std::string_view request) : left_(request) {}
    bool is_readable() const override { return !left_.empty(); }
    bool is_writable() const override { return true; }
    ssize_t read(char* to, size_t bytes) override {
        const size_t taken = left_.copy(to, bytes);
        left_.remove_prefix(taken);
        return static_cast<ssize_t>(taken);
    }
    ssize_t write(const char* from, size_t bytes) override {
        written.append(from, bytes);
        return static_cast<ssize_t>(bytes);
    }
    void get_remote_ip_and_port(std::string&, int&) const override {}
    void get_local_ip_and_port(std::string&, int&) const override {}
    socket_t socket() const override { return -1; }

    std::string written;

  private:
    std::string_view left_;
};

// Server::process_request is for those that bring a stream of their own.
class Parser final : public httplib::Server {
  public:
    // The whole response, and whether the connection is to be closed after it.
    HttpAnswer respond(std::string_view request) {
        TextStream stream(request);
        HttpAnswer answer;
        bool closed = false;
        const bool went_on = process_request(stream, false, closed, nullptr);
        answer.bytes = std::move(stream.written);
        answer.close = closed || !went_on;
        return answer;
    }
};

// In time that depends on the lengths alone.
bool same(std::string_view given, std::string_view token) {
    uint8_t different = given.size() != token.size();
    for (size_t at = 0; at < given.size(); ++at)
        different |= static_cast<uint8_t>(given[at] ^ token[at % token.size()]);
    return different == 0;
}

// Names of this machine's loopback: an IP address, or localhost. A page of another site reaches
// this endpoint under a name of that site, if its DNS says so.
bool is_host_here(std::string_view host) {
    if (host.empty()) return true;
    if (host.starts_with('[')) return host.find(']') != std::string_view::npos;
    host = host.substr(0, host.find(':'));
    if (host == "localhost") return true;
    return bool{parse_prefix(host)};
}

std::string pattern_of(std::string_view path) {
    std::string pattern(path);
    if (const size_t id = pattern.find("{id}"); id != std::string::npos)
        pattern.replace(id, 4, "([^/]+)");
    return pattern;
}

}  // namespace

struct Control::Parts {
    Parts(AdminListener own, std::vector<std::string> allowed, ControlTarget& target)
        : listener(std::move(own)), tokens(std::move(allowed)), routes(target) {}

    void add(const Route& route);
    void add_errors();
    Reply answer(const Route& route, const httplib::Request& request);
    std::optional<Reply> refusal(const Route& route, const httplib::Request& request) const;
    HttpAnswer respond(HttpCall& call);

    AdminListener listener;
    const std::vector<std::string> tokens;
    Routes routes;
    Parser parser;
    std::unique_ptr<HttpFront> front;
};

namespace {

// The call that the thread answers: handlers of httplib are given the request alone.
thread_local HttpCall* call_of_thread = nullptr;

void write(const Reply& reply, httplib::Response& response) {
    response.status = reply.status;
    if (!reply.allow.empty()) response.set_header("Allow", reply.allow);
    if (reply.status == 401) response.set_header("WWW-Authenticate", "Bearer");
    response.set_header("Cache-Control", "no-store");
    response.set_content(reply.body, reply.type);
}

// To a path or a method that the table does not have, and to what is not HTTP.
Reply reply_to_unknown(const httplib::Request& request, int status) {
    std::string methods;
    for (const Route& route : Routes::table()) {
        if (!std::regex_match(request.path, std::regex(pattern_of(route.path)))) continue;
        methods.append(methods.empty() ? "" : ", ").append(route.method);
    }
    if (status == 404 && !methods.empty()) {
        Reply reply = error_reply(405, request.path, "has no " + request.method, "use " + methods);
        reply.allow = methods;
        return reply;
    }
    if (status == 404)
        return error_reply(404, request.path, "is not a path of this server",
                           "GET /api/v1 lists all");
    return error_reply(status, "request", "is not one that is understood",
                       "GET /api/v1 lists what can be asked");
}

}  // namespace

void Control::Parts::add(const Route& route) {
    const auto handler = [this, &route](const httplib::Request& request,
                                        httplib::Response& response) {
        Reply reply = answer(route, request);
        if (reply.body.size() > kAdminAnswerBytesMax) {
            reply = error_reply(500, request.path, "has an answer that is too long",
                                "ask for less at once");
        }
        write(reply, response);
    };
    const std::string pattern = pattern_of(route.path);
    if (route.method == "GET") parser.Get(pattern, handler);
    if (route.method == "POST") parser.Post(pattern, handler);
    if (route.method == "DELETE") parser.Delete(pattern, handler);
}

void Control::Parts::add_errors() {
    const httplib::Server::Handler handler = [](const httplib::Request& request,
                                                httplib::Response& response) {
        if (response.body.empty()) write(reply_to_unknown(request, response.status), response);
    };
    parser.set_error_handler(handler);
    // Of what is thrown where memory is short; the server lives on.
    parser.set_exception_handler(
        [](const httplib::Request& request, httplib::Response& response, std::exception_ptr) {
            write(error_reply(500, request.path, "could not be answered", "try again"), response);
        });
}

// Whether the client may ask at all.
std::optional<Reply> Control::Parts::refusal(const Route& route,
                                             const httplib::Request& request) const {
    if (tokens.empty()) {
        if (is_host_here(request.get_header_value("Host"))) return std::nullopt;
        return error_reply(403, "Host", "is a name, and this endpoint has no token",
                           "use an address or localhost, or start it with --admin-token-file");
    }
    if (route.access == Access::open) return std::nullopt;
    constexpr std::string_view kBearer = "Bearer ";
    const std::string given = request.get_header_value("Authorization");
    bool known = false;
    if (std::string_view(given).starts_with(kBearer)) {
        const std::string_view shown = std::string_view(given).substr(kBearer.size());
        for (const std::string& token : tokens) known |= same(shown, token);
    }
    if (known) return std::nullopt;
    return error_reply(401, "Authorization",
                       given.empty() ? "is missing" : "is not a token of this server",
                       "send 'Authorization: Bearer TOKEN' with one of --admin-token-file");
}

Reply Control::Parts::answer(const Route& route, const httplib::Request& request) {
    if (std::optional<Reply> refused = refusal(route, request)) return *std::move(refused);
    Ask ask;
    if (request.matches.size() > 1) ask.id = request.matches[1];
    ask.query = request.params;
    ask.gone = [call = call_of_thread] { return call->gone.load(); };
    if (route.method == "POST") {
        if (!request.get_header_value("Content-Type").starts_with("application/json")) {
            return error_reply(415, "Content-Type", "is not application/json",
                               "send the body as application/json");
        }
        ask.body = Json::parse(request.body.empty() ? "{}" : request.body, nullptr, false);
        if (!ask.body.is_object()) {
            return error_reply(400, "body", "is not a JSON object",
                               "write one, such as {\"all\": true}");
        }
    }
    return routes.answer(route, ask);
}

HttpAnswer Control::Parts::respond(HttpCall& call) {
    call_of_thread = &call;
    HttpAnswer answer = parser.respond(call.request);
    call_of_thread = nullptr;
    return answer;
}

Control::Control(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Control::~Control() { parts_->front.reset(); }

Result<std::unique_ptr<Control>> Control::start(AdminListener listener,
                                                std::vector<std::string> tokens,
                                                ControlTarget& target) {
    auto parts = std::make_unique<Parts>(std::move(listener), std::move(tokens), target);
    parts->parser.set_payload_max_length(kAdminBodyBytesMax);
    parts->add_errors();
    for (const Route& route : Routes::table()) parts->add(route);
    HttpFront::Answerer answerer;
    answerer.answer = [&own = *parts](HttpCall& call) { return own.respond(call); };
    answerer.is_quick = [](std::string_view path) {
        return std::ranges::any_of(Routes::table(), [&](const Route& route) {
            return !route.waits && route.path == path;
        });
    };
    answerer.refusal = [](int status, std::string_view reason, std::string_view remedy) {
        const Reply reply = error_reply(status, "request", reason, remedy);
        return "HTTP/1.1 " + std::to_string(status) + " Refused\r\nConnection: close\r\n" +
               "Content-Type: application/json\r\nContent-Length: " +
               std::to_string(reply.body.size()) + "\r\n\r\n" + reply.body;
    };
    Result<std::unique_ptr<HttpFront>> front =
        HttpFront::start(parts->listener.take(), std::move(answerer));
    if (!front) return Error{front.error()};
    parts->front = std::move(*front);
    return std::unique_ptr<Control>(new Control(std::move(parts)));
}

size_t Control::memory_bytes_max() {
    return kAdminConnectionsMax * (kAdminHeadBytesMax + kAdminBodyBytesMax + kAdminAnswerBytesMax);
}

Result<std::vector<std::string>> read_admin_tokens(const std::string& path) {
    std::ifstream file(path);
    if (!file) return Error{pulse::quoted(path) + " cannot be read; name a file that can"};
    std::vector<std::string> tokens;
    size_t number = 0;
    for (std::string line; std::getline(file, line);) {
        ++number;
        while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
        if (line.empty() || line.starts_with('#')) continue;
        const std::string where = pulse::quoted(path) + " line " + std::to_string(number);
        const bool plain = std::ranges::all_of(line, [](char c) { return c > ' ' && c <= '~'; });
        if (!plain) {
            return Error{where + " holds what a header cannot carry; write letters and digits"};
        }
        if (line.size() < kAdminTokenBytesMin) {
            return Error{where + " is a token of fewer than " +
                         std::to_string(kAdminTokenBytesMin) + " characters; write a longer one"};
        }
        tokens.push_back(line);
    }
    if (tokens.empty() || tokens.size() > kAdminTokensMax) {
        return Error{pulse::quoted(path) + " holds " + std::to_string(tokens.size()) +
                     " tokens; write 1 to " + std::to_string(kAdminTokensMax) + ", a line each"};
    }
    return tokens;
}

Result<void> check_admin_access(const AdminAddress& address, bool has_tokens) {
    if (has_tokens || address.is_local()) return {};
    return Error{pulse::quoted(address.text) +
                 " can be reached from other machines, and any of them could stop the server; give "
                 "--admin-token-file, or listen on 127.0.0.1 or unix:PATH"};
}

}  // namespace pulse
