# Built in the root of the repository: docker build -f launch/containers/cpu.Dockerfile -t maxlite:cpu .
FROM python:3.11-slim
WORKDIR /maxlite
# What is locked first: it is built again only when the lock file changes.
COPY requirements/py311.txt requirements/
RUN pip install --no-cache-dir -r requirements/py311.txt
COPY . .
RUN pip install --no-cache-dir --no-deps -e .
ENTRYPOINT ["launch/local.sh"]
