# mypy: ignore-errors
"""What a user writes first: a FastAPI route around ``model.predict``. ``python server.py PORT MODEL.joblib``."""

import sys

import joblib
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Body(BaseModel):
    features: list[list[float]]


class Answer(BaseModel):
    predictions: list[int]


app = FastAPI()
model = joblib.load(sys.argv[2])


# On one core, running inline is faster than FastAPI's thread pool.
@app.post("/predict")
async def predict(body: Body) -> Answer:
    return Answer(predictions=model.predict(body.features).tolist())


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
