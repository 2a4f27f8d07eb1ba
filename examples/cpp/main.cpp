// A detector of condetr in C++, run by ONNX Runtime: detect detector.onnx photo.jpg [LOWEST_SCORE]
//
// The graph is written by condetr convert runs/RUN detector.onnx --detections. Each line of the output is a detection:
// score, box (left, top, right, bottom, in pixels of the photo) and class. Classes, threshold and the size of images come
// from the graph's own metadata.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

using nlohmann::json;

// A value from the graph's metadata, which is JSON.
json metadata(const Ort::Session& session, const char* key) {
  Ort::AllocatorWithDefaultOptions allocator;
  const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated(key, allocator);
  if (!text) throw std::runtime_error(std::string("the graph does not say ") + key + "; write it by condetr convert");
  return json::parse(text.get());
}

// The size at which the graph gets a photo, as in condetr: by its short side, fitted, stretched, or its own.
// nearbyint rounds halves to the even number, as Python does.
cv::Size scaled_size(const cv::Size& size, const json& transform) {
  const std::string kind = transform.at("kind");
  if (kind != "paper") {
    if (transform.at("size_hw").is_null()) return size;
    const int height = transform["size_hw"][0], width = transform["size_hw"][1];
    if (kind == "stretch") return {width, height};
    const double factor = std::min(double(height) / size.height, double(width) / size.width);
    return {std::max(1, int(std::nearbyint(size.width * factor))),
            std::max(1, int(std::nearbyint(size.height * factor)))};
  }
  const int shorter = std::min(size.height, size.width), longer = std::max(size.height, size.width);
  int side = transform.at("eval_short_side");
  const int largest = transform.at("max_side");
  if (double(longer) / shorter * side > largest)
    side = std::max(1, int(std::nearbyint(double(largest) * shorter / longer)));
  if (side == shorter) return size;
  const int other = int(double(side) * longer / shorter);
  return size.height <= size.width ? cv::Size(other, side) : cv::Size(side, other);
}

float number(const char* text) {
  char* end = nullptr;
  const float value = std::strtof(text, &end);
  if (end == text || *end) throw std::runtime_error(std::string("the lowest score is a number, got ") + text);
  return value;
}

void detect(const char* graph, const char* file, const char* lowest) {
  Ort::Env environment;
  Ort::Session session(environment, graph, Ort::SessionOptions{});
  const json labels = metadata(session, "label_map"), transform = metadata(session, "transform");
  const json only_size = metadata(session, "size_hw"), own = metadata(session, "threshold");
  const float threshold = lowest ? number(lowest) : own.is_null() ? 0.5f : own.get<float>();
  if (session.GetOutputCount() != 3)
    throw std::runtime_error(std::string(graph) + " returns no boxes in pixels: write it with --detections");

  cv::Mat photo = cv::imread(file), scaled;
  if (photo.empty()) throw std::runtime_error(std::string(file) + " is no image that OpenCV reads");
  const cv::Size size = scaled_size(photo.size(), transform);
  cv::resize(photo, scaled, size, 0, 0, size.area() < photo.size().area() ? cv::INTER_AREA : cv::INTER_LINEAR);
  cv::cvtColor(scaled, scaled, cv::COLOR_BGR2RGB);

  // The image lies in the upper left corner; the rest, if the graph takes one size only, is padding.
  const int64_t height = only_size.is_null() ? size.height : only_size[0].get<int64_t>();
  const int64_t width = only_size.is_null() ? size.width : only_size[1].get<int64_t>();
  const bool has_mask = session.GetInputCount() == 2;
  const size_t area = height * width;
  std::vector<uint8_t> bytes(3 * area);
  const std::unique_ptr<bool[]> is_padding(new bool[area]);
  std::fill_n(is_padding.get(), area, true);
  for (int y = 0; y < size.height; y++)
    for (int x = 0; x < size.width; x++) {
      for (int colour = 0; colour < 3; colour++)
        bytes[colour * area + y * width + x] = scaled.at<cv::Vec3b>(y, x)[colour];
      is_padding[y * width + x] = false;
    }
  std::vector<float> floats(bytes.begin(), bytes.end());

  const std::array<int64_t, 4> shape{1, 3, height, width};
  const std::array<int64_t, 3> mask_shape{1, height, width};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<Ort::Value> inputs;
  if (has_mask) {
    inputs.push_back(Ort::Value::CreateTensor(memory, bytes.data(), bytes.size(), shape.data(), shape.size()));
    inputs.push_back(Ort::Value::CreateTensor(memory, is_padding.get(), area, mask_shape.data(), mask_shape.size()));
  } else {
    inputs.push_back(Ort::Value::CreateTensor(memory, floats.data(), floats.size(), shape.data(), shape.size()));
  }
  const char* input_names[] = {"pixels", "is_padding"};
  const char* output_names[] = {"scores", "labels", "boxes_xyxy"};
  const auto found = session.Run(Ort::RunOptions{}, input_names, inputs.data(), inputs.size(), output_names, 3);

  const float* scores = found[0].GetTensorData<float>();
  const int64_t* classes = found[1].GetTensorData<int64_t>();
  const float* boxes = found[2].GetTensorData<float>();
  const double scale_x = double(photo.cols) / size.width, scale_y = double(photo.rows) / size.height;
  const size_t count = found[0].GetTensorTypeAndShapeInfo().GetElementCount();
  for (size_t index = 0; index < count && scores[index] >= threshold; index++) {  // the best comes first
    const float* box = boxes + 4 * index;
    bool is_new = true;  // of a box's classes, only the best is shown
    for (size_t better = 0; better < index; better++) is_new &= !std::equal(box, box + 4, boxes + 4 * better);
    if (!is_new) continue;
    std::printf("%.4f %.1f %.1f %.1f %.1f %s\n", scores[index], box[0] * scale_x, box[1] * scale_y, box[2] * scale_x,
                box[3] * scale_y, labels.at(classes[index]).at("name").get<std::string>().c_str());
  }
}

int main(int count, char** arguments) {
  if (count != 3 && count != 4) {
    std::fprintf(stderr, "usage: detect detector.onnx photo.jpg [LOWEST_SCORE]\n");
    return 2;
  }
  try {
    detect(arguments[1], arguments[2], count == 4 ? arguments[3] : nullptr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "detect: %s\n", error.what());
    return 2;
  }
}
