# Train on Nvidia GPUs; torch's wheels bring CUDA, the machine its driver and the container toolkit.
#     docker build --tag condetr .
#     docker run --gpus all --shm-size 8g --volume /path/to/data:/data condetr train --data /data/mine --out /data/run
FROM python:3.13-slim
COPY . /src
RUN pip install --no-cache-dir --constraint /src/constraints.txt '/src[timm,video,onnx]'
WORKDIR /data
ENTRYPOINT ["condetr"]
