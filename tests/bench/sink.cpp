// An S3 that keeps nothing: it measures clients, and answers as little as they need for an upload,
// or for a download: whatever was sent, what comes back is zeros, but for small objects.
//
//   sink CERTIFICATE KEY [DELAY_MS [MB_PER_S [google]]]
//
// With the last word it is a Cloud Storage instead: see google.hpp.
//
// It listens on a free port of the loopback with TLS and prints that port. Sizes are remembered,
// bytes are not. DELAY_MS is how late each answer is, MB_PER_S what a connection can carry: a model
// of a distant store, in which many connections are faster than one.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using namespace std;
using Clock = chrono::steady_clock;
using Fields = map<string, string>;

static bool google = false;
static int delay_ms = 0;
static double bytes_per_s = 0;
static mutex lock_;
static map<string, uint64_t> objects;
static map<string, string> small;  // bodies of objects of at most SMALL bytes, as they were sent
static const uint64_t SMALL = 64 << 10;
static map<string, map<int, uint64_t>> uploads;
static uint64_t next_upload = 1;

#include "crc32c.hpp"

struct Connection {
  SSL* ssl;
  vector<char> buffer = vector<char>(1 << 18);
  uint32_t checksum = 0;  // of the last body, where somebody asks for it
  string body;            // the last one, if it was small
  size_t start = 0, end = 0;

  bool fill() {
    if (start == end) start = end = 0;
    if (end == buffer.size()) return false;  // a header of 256 KiB is none
    int count = SSL_read(ssl, &buffer[end], int(buffer.size() - end));
    if (count <= 0) return false;
    end += count;
    return true;
  }

  bool line(string& text) {
    for (;;) {
      char* from = &buffer[0] + start;
      char* found = (char*)memchr(from, '\n', end - start);
      if (found) {
        text.assign(from, found);
        if (!text.empty() && text.back() == '\r') text.pop_back();
        start = found - &buffer[0] + 1;
        return true;
      }
      if (!fill()) return false;
    }
  }

  // Read a body and forget it, no faster than the connection is said to be.
  bool skip(uint64_t size) {
    auto began = Clock::now();
    for (uint64_t seen = 0; seen < size;) {
      if (start == end && !fill()) return false;
      size_t count = min<uint64_t>(size - seen, end - start);
      if (google) checksum = crc32c(checksum, &buffer[start], count);
      if (size <= SMALL) body.append(&buffer[start], count);
      start += count;
      seen += count;
      if (bytes_per_s > 0) {
        chrono::duration<double> due(seen / bytes_per_s);
        auto ahead = due - (Clock::now() - began);
        if (ahead.count() > 0) this_thread::sleep_for(ahead);
      }
    }
    return true;
  }

  // Read a body of which nobody says how long it is.
  bool skip_chunks() {
    string text;
    for (;;) {
      if (!line(text)) return false;
      uint64_t size = strtoull(text.c_str(), nullptr, 16);
      if (!size) break;
      if (!skip(size) || !line(text)) return false;
    }
    while (line(text))
      if (text.empty()) return true;
    return false;
  }

  bool write(const string& text) {
    return text.empty() || SSL_write(ssl, text.data(), int(text.size())) == int(text.size());
  }

  // Send zeros, no faster than the connection is said to be.
  bool zeros(uint64_t size) {
    static const string block(256 << 10, '\0');
    auto began = Clock::now();
    for (uint64_t sent = 0; sent < size;) {
      uint64_t count = min<uint64_t>(size - sent, block.size());
      if (SSL_write(ssl, block.data(), int(count)) != int(count)) return false;
      sent += count;
      if (bytes_per_s > 0) {
        chrono::duration<double> due(sent / bytes_per_s);
        auto ahead = due - (Clock::now() - began);
        if (ahead.count() > 0) this_thread::sleep_for(ahead);
      }
    }
    return true;
  }
};

static string decoded(const string& text) {
  string plain;
  for (size_t at = 0; at < text.size(); at++) {
    if (text[at] == '%' && at + 2 < text.size()) {
      plain += char(strtol(text.substr(at + 1, 2).c_str(), nullptr, 16));
      at += 2;
    } else {
      plain += text[at];
    }
  }
  return plain;
}

static Fields parsed(const string& query) {
  Fields fields;
  for (size_t at = 0; at < query.size();) {
    size_t stop = min(query.find('&', at), query.size());
    string pair = query.substr(at, stop - at);
    size_t equals = min(pair.find('='), pair.size());
    fields[decoded(pair.substr(0, equals))] =
        equals < pair.size() ? decoded(pair.substr(equals + 1)) : "";
    at = stop + 1;
  }
  return fields;
}

static uint64_t number(const Fields& fields, const string& name) {
  auto found = fields.find(name);
  return found == fields.end() ? 0 : strtoull(found->second.c_str(), nullptr, 10);
}

struct Answer {
  int status = 200;
  string body;
  string length;  // of a HEAD, which has no body, or of an object
  string headers = "";
  string content = "";  // the key of an object whose bytes follow
};

// Size of what a copy brings: of a range where one is named, else of the source.
static uint64_t copied(const Fields& headers) {
  auto range = headers.find("x-amz-copy-source-range");
  if (range != headers.end()) {
    unsigned long long first = 0, last = 0;
    sscanf(range->second.c_str(), "bytes=%llu-%llu", &first, &last);
    return last - first + 1;
  }
  string source = decoded(headers.at("x-amz-copy-source"));
  return objects["/" + source.substr(source[0] == '/')];
}

static string listed(const string& bucket, Fields& query) {
  string prefix = bucket + "/" + query["prefix"], after = bucket + "/" + query["start-after"];
  string body = "<ListBucketResult><IsTruncated>false</IsTruncated>";
  for (auto at = objects.lower_bound(prefix); at != objects.end(); ++at) {
    if (at->first.compare(0, prefix.size(), prefix) != 0) break;
    if (at->first <= after) continue;
    body += "<Contents><Key>" + at->first.substr(bucket.size() + 1) +
            "</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag><Size>" +
            to_string(at->second) + "</Size></Contents>";
  }
  return body + "</ListBucketResult>";
}

static Answer answered(const string& method, const string& path, Fields query, Fields headers) {
  lock_guard<mutex> guard(lock_);
  uint64_t size = headers.count("x-amz-decoded-content-length")
                      ? number(headers, "x-amz-decoded-content-length")
                      : number(headers, "content-length");
  size_t slash = path.find('/', 1);
  bool of_bucket = slash == string::npos || slash + 1 == path.size();
  if (method == "POST" && path == "/")  // STS, which is asked whose the credentials are
    return {200, "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>a</Arn><UserId>u</UserId><Account>"
                 "123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>", ""};
  if (of_bucket && method == "HEAD") return {200, "", "0"};
  if (of_bucket && query.count("uploads"))
    return {200, "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>", ""};
  if (of_bucket) return {200, listed(path.substr(0, slash), query), ""};
  bool copies = headers.count("x-amz-copy-source");
  if (method == "POST" && query.count("uploads")) {
    string id = "u" + to_string(next_upload++);
    uploads[id];
    return {200, "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>b</Bucket><Key>k</Key><UploadId>" + id +
                     "</UploadId></InitiateMultipartUploadResult>", ""};
  }
  if (method == "POST") {
    uint64_t whole = 0;
    for (auto& part : uploads[query["uploadId"]]) whole += part.second;
    uploads.erase(query["uploadId"]);
    objects[path] = whole;
    return {200, "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>", ""};
  }
  if (method == "PUT") {
    if (copies) size = copied(headers);
    if (query.count("partNumber"))
      uploads[query["uploadId"]][int(number(query, "partNumber"))] = size;
    else
      objects[path] = size;
    string kind = query.count("partNumber") ? "CopyPartResult" : "CopyObjectResult";
    return {200, copies ? "<" + kind + "><ETag>\"e\"</ETag></" + kind + ">" : "", ""};
  }
  if (method == "DELETE") {
    objects.erase(path);
    return {204, "", ""};
  }
  auto found = objects.find(path);
  if (found == objects.end()) return {404, "<Error><Code>NoSuchKey</Code></Error>", ""};
  return {200, "", to_string(found->second), "", method == "GET" ? path : ""};
}

// The bytes of an object, or of the range that is asked for.
static bool sent(Connection& connection, Answer answer, const Fields& headers) {
  unsigned long long size = strtoull(answer.length.c_str(), nullptr, 10), first = 0, last = size - 1;
  auto range = headers.find("range");
  if (range != headers.end()) {
    sscanf(range->second.c_str(), "bytes=%llu-%llu", &first, &last);
    last = min(last, size - 1);
    answer.status = first < size ? 206 : 416;
    answer.headers += "Content-Range: bytes " + to_string(first) + "-" + to_string(last) + "/" +
                      to_string(size) + "\r\n";
  }
  uint64_t count = first < size ? last - first + 1 : 0;
  string head = "HTTP/1.1 " + to_string(answer.status) +
                " OK\r\nETag: \"e\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                "Content-Length: " + to_string(count) + "\r\n" + answer.headers + "\r\n";
  if (!connection.write(head)) return false;
  string body;
  {
    lock_guard<mutex> guard(lock_);
    auto kept = small.find(answer.content);
    if (kept == small.end()) body.clear();
    else body = kept->second.substr(first, count);
  }
  return body.empty() ? connection.zeros(count) : connection.write(body);
}

#include "google.hpp"

static void serve(int socket, SSL_CTX* context) {
  int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  Connection connection{SSL_new(context)};
  SSL_set_fd(connection.ssl, socket);
  string text;
  bool good = SSL_accept(connection.ssl) > 0;
  while (good && connection.line(text)) {
    if (text.empty()) continue;
    string method = text.substr(0, text.find(' '));
    string target = text.substr(method.size() + 1, text.rfind(' ') - method.size() - 1);
    Fields headers;
    while ((good = connection.line(text)) && !text.empty()) {
      size_t colon = min(text.find(':'), text.size());
      string name = text.substr(0, colon);
      transform(name.begin(), name.end(), name.begin(), ::tolower);
      size_t value = text.find_first_not_of(' ', colon + 1);
      headers[name] = value == string::npos ? "" : text.substr(value);
    }
    if (!good) break;
    if (delay_ms) this_thread::sleep_for(chrono::milliseconds(delay_ms));
    if (headers.count("expect") && !connection.write("HTTP/1.1 100 Continue\r\n\r\n")) break;
    size_t mark = min(target.find('?'), target.size());
    string path = target.substr(0, mark);
    Fields query = parsed(mark < target.size() ? target.substr(mark + 1) : "");
    connection.checksum = google ? checksum_before(query) : 0;
    connection.body.clear();
    good = headers["transfer-encoding"] == "chunked"
               ? connection.skip_chunks()
               : connection.skip(number(headers, "content-length"));
    if (!good) break;
    Answer answer = google
                        ? answered_by_google(method, path, query, headers, connection.checksum)
                        : answered(method, decoded(path), query, headers);
    if (method == "PUT" && !query.count("partNumber") && !connection.body.empty()) {
      lock_guard<mutex> guard(lock_);
      small[decoded(path)] = connection.body;
    }
    if (!answer.content.empty()) {
      good = sent(connection, answer, headers);
      continue;
    }
    string length = answer.length.empty() ? to_string(answer.body.size()) : answer.length;
    string head = "HTTP/1.1 " + to_string(answer.status) +
                  " OK\r\nETag: \"e\"\r\nx-amz-bucket-region: us-east-1\r\n"
                  "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n" + answer.headers;
    if (answer.status != 204) head += "Content-Length: " + length + "\r\n";
    good = connection.write(head + "\r\n" + (method == "HEAD" ? "" : answer.body));
  }
  SSL_free(connection.ssl);
  close(socket);
}

int main(int count, char** words) {
  if (count < 3) return 64;
  if (count > 3) delay_ms = atoi(words[3]);
  if (count > 4) bytes_per_s = atof(words[4]) * 1e6;
  google = count > 5;
  signal(SIGPIPE, SIG_IGN);
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  if (SSL_CTX_use_certificate_chain_file(context, words[1]) != 1 ||
      SSL_CTX_use_PrivateKey_file(context, words[2], SSL_FILETYPE_PEM) != 1) {
    ERR_print_errors_fp(stderr);
    return 1;
  }
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bytes_per_s > 0) {
    // Small, so that what waits in the system's memory does not hide how slow the line is.
    int window = 256 << 10;
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
    setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &window, sizeof window);
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listener, (sockaddr*)&address, size) || listen(listener, 512) ||
      getsockname(listener, (sockaddr*)&address, &size)) {
    perror("sink");
    return 1;
  }
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    int accepted = accept(listener, nullptr, nullptr);
    if (accepted >= 0) thread(serve, accepted, context).detach();
  }
}
