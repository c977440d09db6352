// What clients of Cloud Storage ask beside the XML API, which is S3's but for a few headers: the
// JSON API, its resumable uploads, and the one call with which Vertex AI takes a model.

static map<string, pair<uint64_t, uint32_t>> sessions;  // resumable uploads: size and checksum

static string base64_of(uint32_t checksum) {
  static const char* letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  uint64_t bits = uint64_t(checksum) << 16;
  string text;
  for (int at = 0; at < 6; at++) text += letters[bits >> (42 - 6 * at) & 63];
  return text + "==";
}

static bool starts(const string& text, const string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

static string object_json(uint64_t size, uint32_t checksum) {
  return "{\"name\":\"n\",\"bucket\":\"b\",\"generation\":\"1\",\"size\":\"" + to_string(size) +
         "\",\"crc32c\":\"" + base64_of(checksum) + "\"}";
}

// What the checksum of a body goes on from: that of the pieces before it.
static uint32_t checksum_before(Fields& query) {
  lock_guard<mutex> guard(lock_);
  auto found = sessions.find(query["upload_id"]);
  return found == sessions.end() ? 0 : found->second.second;
}

// One piece of a resumable upload: the last one says how long the whole is.
static Answer piece_sent(const string& id, const Fields& headers, uint32_t checksum) {
  unsigned long long first = 0, last = 0, whole = 0;
  auto range = headers.find("content-range");
  if (range == headers.end() ||
      sscanf(range->second.c_str(), "bytes %llu-%llu/%llu", &first, &last, &whole) < 2)
    return {400, "{}", ""};
  auto& [size, so_far] = sessions[id];
  if (first != size) return {400, "{}", ""};
  so_far = checksum;
  size = last + 1;
  if (size != whole) return {308, "", "", "Range: bytes=0-" + to_string(last) + "\r\n"};
  return {200, object_json(size, so_far), ""};
}

static Answer uploaded(const string& method, Fields& query, const Fields& headers, uint32_t checksum) {
  if (method == "PUT") return piece_sent(query["upload_id"], headers, checksum);
  if (query["uploadType"] != "resumable")
    return {200, object_json(number(headers, "content-length"), checksum), ""};
  string id = "r" + to_string(next_upload++);
  sessions[id];
  string where = "https://" + headers.at("host") + "/upload/storage/v1/b/b/o?upload_id=" + id;
  return {200, "{}", "", "Location: " + where + "\r\n"};
}

// Where an object of the JSON API is among all of them: /b/BUCKET/o/NAME, quoted.
static string place(const string& path) {
  size_t name = path.find("/o/");
  return decoded(path.substr(2, name - 2)) + "/" + decoded(path.substr(name + 3));
}

static Answer json_answered(const string& method, const string& path) {
  if (starts(path, "/projects/"))
    return {200, "{\"email_address\":\"service-1@gs-project-accounts.iam.gserviceaccount.com\"}", ""};
  size_t rewrite = path.find("/rewriteTo/");
  if (rewrite != string::npos) {
    uint64_t size = objects[place(path.substr(0, rewrite))];
    objects[place(path.substr(rewrite + 10))] = size;
    string bytes = to_string(size);
    return {200, "{\"done\":true,\"objectSize\":\"" + bytes + "\",\"totalBytesRewritten\":\"" + bytes + "\"}", ""};
  }
  size_t of_object = path.find("/o/");
  if (of_object == string::npos) {
    if (path.size() > 2 && path.compare(path.size() - 2, 2, "/o") == 0) return {200, "{}", ""};
    return {200, "{\"name\":\"b\",\"projectNumber\":\"1\",\"location\":\"US-CENTRAL1\"}", ""};
  }
  if (method == "DELETE") {
    objects.erase(place(path));
    return {204, "", ""};
  }
  auto found = objects.find(place(path));
  if (found == objects.end()) return {404, "{\"error\":{\"message\":\"none\",\"errors\":[{\"reason\":\"notFound\"}]}}", ""};
  return {200, object_json(found->second, 0), ""};
}

static Answer vertex_answered(const string& method) {
  string name = "projects/1/locations/us-central1/models/1";
  if (method == "GET") return {200, "{\"name\":\"" + name + "\",\"versionId\":\"1\",\"displayName\":\"m\"}", ""};
  return {200,
          "{\"name\":\"" + name + "/operations/1\",\"done\":true,\"response\":{\"@type\":"
          "\"type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse\",\"model\":\"" +
              name + "\",\"modelVersionId\":\"1\"}}",
          ""};
}

static Answer answered_by_google(const string& method, const string& path, Fields query,
                                 Fields headers, uint32_t checksum) {
  const string json = "Content-Type: application/json\r\n";
  Answer answer;
  if (starts(path, "/download/storage/v1/")) {
    lock_guard<mutex> guard(lock_);
    string key = place(path.substr(20));
    auto found = objects.find(key);
    if (found == objects.end()) return {404, "{}", ""};
    return {200, "", to_string(found->second), "x-goog-generation: 1\r\n", key};
  }
  if (starts(path, "/upload/storage/v1/") || starts(path, "/storage/v1/") ||
      starts(path, "/v1/")) {
    lock_guard<mutex> guard(lock_);
    answer = starts(path, "/upload/") ? uploaded(method, query, headers, checksum)
             : starts(path, "/v1/")   ? vertex_answered(method)
                                      : json_answered(method, path.substr(11));
    answer.headers += json;
    return answer;
  }
  auto source = headers.find("x-goog-copy-source");
  if (source != headers.end()) headers["x-amz-copy-source"] = source->second;
  answer = answered(method, decoded(path), query, headers);
  answer.headers = "x-goog-generation: 1\r\n";
  if (method == "PUT" && source == headers.end())
    answer.headers += "x-goog-hash: crc32c=" + base64_of(checksum) + "\r\n";
  return answer;
}
