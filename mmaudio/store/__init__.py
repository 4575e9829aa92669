"""Features on disk and nothing else: hands on stores, each a folder of raw columns, a table of its rows and a record.

`write_store` streams blocks of features into a new store; `Store.open` reads one, ours or the published system's.
"""

from mmaudio.base.specs import LAYOUTS
from mmaudio.store.format import KINDS, StoreRecord, record_path, table_path
from mmaudio.store.reader import Store
from mmaudio.store.writer import Block, write_store

__all__ = ["KINDS", "LAYOUTS", "Block", "Store", "StoreRecord", "record_path", "table_path", "write_store"]
