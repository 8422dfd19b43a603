# The page for hosting. No container engine was at hand where this was written, so it has not been built yet.
#
#   docker build -t idpruner-lab .                                  CUDA, as the default index has PyTorch for Linux
#   docker build -t idpruner-lab --build-arg TORCH_INDEX=URL .      CPU or another CUDA: the index URL that PyTorch's
#                                                                   installation page names for it
#   docker run --rm -p 7860:7860 [--gpus all] -v models:/home/lab/.cache/huggingface idpruner-lab --model Qwen/Qwen2.5-VL-3B-Instruct
#
# Options are also environment variables (-e IDPRUNER_AUTH=user:password).
FROM python:3.11-slim

ARG TORCH_INDEX=
WORKDIR /source
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir torch -c constraints.txt ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} \
 && pip install --no-cache-dir -r requirements.txt -c constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY pruning pruning
COPY assets assets
RUN pip install --no-cache-dir --no-deps .

# Not root: the packages stay as they are. The home takes compiled kernels and downloaded models.
RUN useradd --create-home --uid 1000 lab && install -d -o lab /home/lab/.cache/huggingface
USER lab
WORKDIR /home/lab
ENV IDPRUNER_HOST=0.0.0.0
EXPOSE 7860
ENTRYPOINT ["idpruner-lab"]
