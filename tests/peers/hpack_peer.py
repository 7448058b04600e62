"""HPACK of the Python package `hpack`, both sides of one connection, one JSON object a line.

  {"size": 100}                                the receiving side's SETTINGS_HEADER_TABLE_SIZE, both ways; no answer
  {"encode": [["61", "62", false], ...]}       fields in hex, and whether each is never indexed; answers the block in hex
  {"decode": "400161..."}                      a block in hex; answers its fields
"""
import json
import sys

import hpack


def main():
    encoder, decoder = hpack.Encoder(), hpack.Decoder(max_header_list_size=1 << 30)
    for number, line in enumerate(sys.stdin):
        order = json.loads(line)
        if "size" in order:
            encoder.header_table_size = order["size"]
            decoder.max_allowed_table_size = order["size"]
            continue
        if "encode" in order:
            fields = [(bytes.fromhex(name), bytes.fromhex(value), never) for name, value, never in order["encode"]]
            answer = encoder.encode(fields, huffman=number % 3 > 0).hex()
        else:
            fields = decoder.decode(bytes.fromhex(order["decode"]), raw=True)
            answer = [[field[0].hex(), field[1].hex(), not field.indexable] for field in fields]
        print(json.dumps(answer), flush=True)


main()
