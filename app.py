"""IDPruner Lab: `python app.py`, then open http://127.0.0.1:7860. `python app.py --help` shows every option."""

from app.main import main

if __name__ == "__main__":
    main()
